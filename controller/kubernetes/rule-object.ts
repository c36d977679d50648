import { z } from 'zod';
import { customKind, definitionName, type CustomKindName } from '../resources/custom/custom-kinds.js';
import { culvertApiVersion } from '../resources/kinds/metadata.js';
import { kindInfo, type ResourceKind } from '../resources/kinds/resource.js';
import { formatResourceId, resourceIdKey, type ResourceId } from '../resources/kinds/resource-key.js';
import { readResource, withoutBookkeeping, type ReadResource } from '../resources/parse/read-resource.js';
import { writtenStatus, type WrittenStatus } from './object-status.js';

/** A kind of object that becomes rules. */
export type RuleKind = {
  readonly kind: ResourceKind;
  /** `/apis/culvert.dev/v1/segments`: of all namespaces. */
  readonly path: string;
  /** The same of earlier versions of the API, for a cluster that does not serve `path`. */
  readonly earlierPaths: readonly string[];
  readonly apiVersion: string;
  /** Name of its CustomResourceDefinition; null: the API server has the kind built in. */
  readonly definition: string | null;
  /** Ours: its status is written. Objects of others are only read. */
  readonly isOurs: boolean;
};

/** An object of a cluster that is a rule, or is meant to be one. */
export type RuleObject = {
  readonly id: ResourceId;
  /** Key of `StoredResource`. */
  readonly key: string;
  /** `SegmentationRule/db-only`. */
  readonly name: string;
  /** Where its status is written; null: it is not ours. */
  readonly statusPath: string | null;
  readonly generation: number;
  /** When the API server made it, by its clock; null: it does not say. */
  readonly madeAtMs: number | null;
  readonly status: WrittenStatus;
  readonly read: ReadResource;
};

export function ownRuleKind(kind: CustomKindName): RuleKind {
  const { plural } = customKind(kind);
  return {
    kind,
    path: `/apis/${culvertApiVersion}/${plural}`,
    earlierPaths: [],
    apiVersion: culvertApiVersion,
    definition: definitionName(kind),
    isOurs: true,
  };
}

const objectSchema = z.looseObject({
  metadata: z.looseObject({
    name: z.string().min(1),
    namespace: z.string().optional(),
    generation: z.number().default(0),
    creationTimestamp: z.string().nullish(),
    annotations: z.record(z.string(), z.string()).nullish(),
  }),
});

/** kubectl keeps the whole object in it. */
const appliedByKubectl = 'kubectl.kubernetes.io/last-applied-configuration';

/** Reads an object as a document is read: what is wrong with it is in `read`. Throws where it is no object of Kubernetes. */
export function readRuleObject({ kind, path, apiVersion, isOurs }: RuleKind, object: unknown): RuleObject {
  const { metadata, ...fields } = objectSchema.parse(object);
  const { name } = metadata;
  const namespace = kindInfo(kind).isNamespaced ? (metadata.namespace ?? 'default') : null;
  const { [appliedByKubectl]: _, ...annotations } = metadata.annotations ?? {};
  const { annotations: __, ...rest } = metadata;
  const kept = Object.keys(annotations).length === 0 ? rest : { ...rest, annotations };
  const document = withoutBookkeeping({ ...fields, apiVersion, kind, metadata: kept });
  const id = { kind, namespace, name };
  return {
    id,
    key: resourceIdKey(id),
    name: formatResourceId(id),
    statusPath: isOurs ? `${pathOf(path, namespace)}/${name}/status` : null,
    generation: metadata.generation,
    madeAtMs: instantOf(metadata.creationTimestamp ?? ''),
    status: writtenStatus(fields['status']),
    read: readResource(document),
  };
}

/** Of an object that cannot be read, by its key in a `Reflector`. */
export function ruleIdOf({ kind }: Pick<RuleKind, 'kind'>, key: string): ResourceId {
  const at = key.indexOf('/');
  return {
    kind,
    namespace: kindInfo(kind).isNamespaced ? key.slice(0, at) || 'default' : null,
    name: key.slice(at + 1),
  };
}

/** Of a kind, or of a resource of it: tells kinds of one name in different groups apart. */
export function kindKey({ apiVersion, kind }: { readonly apiVersion: string; readonly kind: string }): string {
  return `${apiVersion} ${kind}`;
}

function instantOf(text: string): number | null {
  const atMs = Date.parse(text);
  return Number.isNaN(atMs) ? null : atMs;
}

function pathOf(path: string, namespace: string | null): string {
  if (namespace === null) return path;
  const at = path.lastIndexOf('/');
  return `${path.slice(0, at)}/namespaces/${namespace}${path.slice(at)}`;
}
