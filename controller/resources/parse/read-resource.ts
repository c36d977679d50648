import type { z } from 'zod';
import { nearestName } from '../../../shared/nearest-name.js';
import { withoutNullFields } from './absent-fields.js';
import { describeIssue, type FieldProblem, type WrittenAt } from './describe-issue.js';
import { foreignKind } from './foreign-kinds.js';
import { culvertApiVersion } from '../kinds/metadata.js';
import { formatPath } from '../kinds/problem.js';
import { isResourceKind, kindInfo, kindNames, type Resource } from '../kinds/resource.js';
import { isMapping } from './is-mapping.js';

export type ReadResource =
  | { readonly resource: Resource }
  /** `name`: `Kind/namespace/name` as far as it is readable, else null. */
  | { readonly name: string | null; readonly problems: readonly FieldProblem[] };

/** Validates one document (plain data) against the schema of its kind. Never throws. `writtenAt`: see `describeIssue`. */
export function readResource(json: unknown, writtenAt?: WrittenAt): ReadResource {
  if (!isMapping(json)) return refuse(json, [], 'must be a mapping with apiVersion, kind, metadata and spec', example);
  const { kind, apiVersion } = json;
  if (typeof kind !== 'string') return refuse(json, ['kind'], 'is missing', `the kinds are ${kindNames.join(', ')}`);
  if (kind === 'PolicyTest') return refuse(json, ['kind'], 'a PolicyTest is checked, and never stored', policyTestHint);
  const foreign = foreignKind({ apiVersion, kind });
  if (foreign !== null) return refuse(json, ['kind'], foreign.message, foreign.hint);
  if (!isResourceKind(kind)) {
    return refuse(json, ['kind'], `there is no kind "${kind}"`, unknownKindHint(kind, apiVersion));
  }
  const { apiVersions, schema } = kindInfo(kind);
  if (typeof apiVersion !== 'string' || !apiVersions.includes(apiVersion)) {
    const written = apiVersion === undefined ? 'is missing' : `must not be ${JSON.stringify(apiVersion)}`;
    const hint = `for ${kind} it is ${apiVersions.join(' or ')}`;
    const first = { path: ['apiVersion'], isKey: false, message: written, hint };
    const rest = isOwn(apiVersion, apiVersions)
      ? readResource({ ...json, apiVersion: culvertApiVersion }, writtenAt)
      : null;
    const others = rest !== null && 'problems' in rest ? rest.problems : [];
    return { name: readableName(json), problems: [first, ...others] };
  }
  const document = apiVersion === culvertApiVersion ? json : withoutNullFields(schema, withoutBookkeeping(json));
  const parsed = schema.safeParse(document);
  if (parsed.success) return { resource: parsed.data };
  const issues = withoutConsequences(parsed.error.issues);
  const problems = issues.flatMap((issue) => describeIssue(schema, issue, document, writtenAt));
  return { name: readableName(json), problems };
}

/** Documents of another project's version may have other fields: only of a kind of our own the rest is judged too. */
function isOwn(written: unknown, apiVersions: readonly string[]): boolean {
  const isOurs = written === undefined || (typeof written === 'string' && written.startsWith('culvert.dev/'));
  return isOurs && apiVersions.includes(culvertApiVersion);
}

/** Drops reports that an object lacks a field which is present but misspelt. */
function withoutConsequences(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue[] {
  const misspelt = new Set(
    issues.filter(({ code }) => code === 'unrecognized_keys').map(({ path }) => formatPath(path)),
  );
  return issues.filter(({ code, path }) => code !== 'custom' || !misspelt.has(formatPath(path)));
}

const example = `for example "apiVersion: ${culvertApiVersion}"`;

function refuse(json: unknown, path: PropertyKey[], message: string, hint: string): ReadResource {
  return { name: readableName(json), problems: [{ path, isKey: false, message, hint }] };
}

/** Test documents may be in the same file as rules; commands that cannot use them leave them out. */
const policyTestHint = 'run culvert test -f; culvert apply skips it in files that also have rules';

/** Advice is only a near name that the document could mean: of the same API, or of none that is written. */
function unknownKindHint(kind: string, apiVersion: unknown): string {
  if (kind.endsWith('List')) return 'a list has its documents in the field items';
  const isOfAnother = typeof apiVersion === 'string' && apiVersion !== culvertApiVersion;
  const candidates = kindNames.filter((name) => !isOfAnother || kindInfo(name).apiVersions.includes(apiVersion));
  const nearest = nearestName(kind, candidates);
  return nearest === undefined ? `the kinds are ${kindNames.join(', ')}` : `did you mean "${nearest}"?`;
}

/** Fields that the Kubernetes API server adds to its own and Istio's documents; they do not change their meaning. */
const bookkeepingFields = [
  'creationTimestamp',
  'deletionGracePeriodSeconds',
  'finalizers',
  'generateName',
  'generation',
  'managedFields',
  'ownerReferences',
  'resourceVersion',
  'selfLink',
  'uid',
];

/** The age of a TCPRoute decides which of two counts. */
const keptOf: Readonly<Record<string, string>> = { TCPRoute: 'creationTimestamp' };

/** A document without what the API server adds to it. */
export function withoutBookkeeping(json: Record<string, unknown>): Record<string, unknown> {
  const { status: _, ...document } = json;
  // The spec of a Namespace contains only finalizers.
  if (document['kind'] === 'Namespace' && isMapping(document['spec']))
    document['spec'] = withoutFinalizers(document['spec']);
  if (!isMapping(document['metadata'])) return document;
  const kept = keptOf[String(document['kind'])];
  const metadata = Object.entries(document['metadata']).filter(
    ([field]) => field === kept || !bookkeepingFields.includes(field),
  );
  return { ...document, metadata: Object.fromEntries(metadata) };
}

function withoutFinalizers(spec: Record<string, unknown>): Record<string, unknown> {
  const { finalizers: _, ...rest } = spec;
  return rest;
}

function readableName(json: unknown): string | null {
  if (!isMapping(json) || !isMapping(json['metadata'])) return null;
  const { name, namespace } = json['metadata'];
  const parts = [json['kind'], namespace, name].filter((part) => typeof part === 'string' && part.length <= 253);
  return typeof name === 'string' && parts.length >= 2 ? parts.join('/') : null;
}
