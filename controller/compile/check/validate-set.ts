import { atOnce } from '../../../shared/in-turns.js';
import { compileExternals } from '../compile-externals.js';
import { compilingRules } from '../compile-rules.js';
import { findingAmbiguousRules } from './rule-overlap.js';
import { checkAddresses } from './check-addresses.js';
import { checkClusterPolicies } from './check-cluster-policies.js';
import { checkDestinationRules } from './check-destination-rules.js';
import { checkTcpRoutes } from './check-tcp-routes.js';
import { checkVirtualServices } from './check-virtual-services.js';
import { checkForeignPolicies } from './check-foreign-policies.js';
import { checkPortNames } from './check-port-names.js';
import { checkEmptyMatches } from './check-empty-matches.js';
import { checkReferences } from './check-references.js';
import { checkSegments } from './check-segments.js';
import { meshWideExternals } from '../../../shared/policy/prepared/external-addresses.js';
import { defaultMesh } from '../../resources/kinds/mesh.js';
import type { ResourceLocation } from '../../resources/parse/parse-documents.js';
import { ProblemList } from '../../resources/parse/problem-list.js';
import { RegisteredIndex, type Registered } from './registered.js';
import type { Problem } from '../../resources/kinds/problem.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { SegmentationRule } from '../../resources/kinds/segmentation-rule.js';

export type ValidateOptions = {
  readonly nowMs?: number;
  /** Of the mesh; without it no name is said to be of another one. */
  readonly trustDomain?: string;
  /**
   * Lets a check look at what will be registered in addition to the resources. Without it the workloads and services among
   * them are all there is, and their addresses are checked too.
   */
  readonly among?: (check: (registered: Registered) => void) => void;
};

/**
 * Checks what only the whole set can show. Errors: missing and circular segments, ambiguous rules, addresses or network
 * namespaces that two resources claim, and two DestinationRules for one host. Warnings: unknown accounts, workloads and names
 * of ports, segments without members, and policies that match nothing or have no effect.
 * `locations`: of the documents that are being applied. Rules that have expired at `nowMs` are not compared; without
 * `nowMs` all are. Errors come first.
 */
export function validateSet(
  resources: readonly Resource[],
  locations: ReadonlyMap<string, ResourceLocation> = new Map(),
  options: ValidateOptions = {},
): Problem[] {
  return atOnce(validatingSet(resources, locations, options));
}

/** {@link validateSet} in steps: a set of thousands takes longer than other work should wait. */
export function* validatingSet(
  resources: readonly Resource[],
  locations: ReadonlyMap<string, ResourceLocation>,
  options: ValidateOptions,
): Generator<void, Problem[]> {
  const problems = new ProblemList({ locations });
  const { rules, segments } = yield* compilingRules(resources, problems);
  const documents = new Map<string, SegmentationRule>();
  for (const resource of resources) {
    if (resource.kind === 'SegmentationRule') documents.set(resource.metadata.name, resource);
  }
  const externals = meshWideExternals({
    externals: compileExternals(resources.filter((resource) => resource.kind === 'ServiceEntry')),
    mesh: resources.find((resource) => resource.kind === 'Mesh')?.spec ?? defaultMesh,
  });
  yield;
  const ambiguous = yield* findingAmbiguousRules(rules, { ...options, externals, segments });
  for (const { first, second, example } of ambiguous) {
    const resource = documents.get(second);
    if (resource === undefined) continue;
    const { tier, priority, action } = resource.spec;
    const other = documents.get(first)?.spec.action ?? '';
    const message =
      `${action} contradicts ${other} of SegmentationRule/${first} at the same priority ${priority} of tier ${tier}; ` +
      `both match a connection ${example}`;
    problems.error({ resource, path: ['spec', 'priority'] }, message, 'give the one that is to win a lower priority');
  }
  yield;
  const among = options.among ?? amongThemselves(resources, problems);
  yield;
  among((registered) => checkReferences(resources, registered, problems, options.trustDomain));
  checkEmptyMatches(resources, problems, options.trustDomain);
  yield;
  checkClusterPolicies(resources, problems);
  checkDestinationRules(resources, problems);
  checkVirtualServices(resources, problems);
  checkTcpRoutes(resources, problems);
  among((registered) => checkPortNames(resources, registered, problems));
  yield;
  among((registered) => checkForeignPolicies(resources, registered, problems));
  yield;
  if (problems.errors.length === 0) among((registered) => checkSegments(resources, registered, problems));
  return [...problems.errors, ...problems.warnings];
}

function amongThemselves(
  resources: readonly Resource[],
  problems: ProblemList,
): (check: (registered: Registered) => void) => void {
  checkAddresses(resources, problems);
  const registered = RegisteredIndex.of(resources);
  return (check) => check(registered);
}
