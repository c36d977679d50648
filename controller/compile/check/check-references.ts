import { nearestName } from '../../../shared/nearest-name.js';
import { writtenField, type Peer } from '../../resources/kinds/peer.js';
import type { ReferencedName } from '../../resources/match/peer-field.js';
import { peerFieldNames } from '../../resources/match/peer-fields.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { Service } from '../../resources/kinds/service.js';
import { labelKey } from '../../../shared/policy/prepared/policy-scope.js';
import { carries, hasEndpoint, type Registered, type RegisteredWorkload } from './registered.js';

/**
 * Warns about names that do not exist: often typing mistakes, but a rule may be written before its workloads. Missing
 * segments are errors, which the expansion of segments reports.
 */
export function checkReferences(resources: readonly Resource[], registered: Registered, problems: ProblemList): void {
  const known = new KnownNames({ resources, registered });
  const endpoints = new Endpoints({ registered });
  for (const resource of resources) {
    switch (resource.kind) {
      case 'SegmentationRule':
        known.checkPeers(resource, ['spec', 'from'], resource.spec.from ?? [], problems);
        known.checkPeers(resource, ['spec', 'to'], resource.spec.to ?? [], problems);
        break;
      case 'Segment':
        known.checkPeers(resource, ['spec', 'members'], resource.spec.members, problems);
        break;
      case 'Service':
        if (!endpoints.has(resource)) warnOfSelector(resource, problems);
        break;
      default:
        break;
    }
  }
}

/** Warns of a service without an endpoint. */
export function checkSelector(resource: Service, registered: Registered, problems: ProblemList): void {
  const { namespace } = resource.metadata;
  if (!hasEndpoint(registered, { namespace, selector: resource.spec.selector })) warnOfSelector(resource, problems);
}

function warnOfSelector(resource: Service, problems: ProblemList): void {
  const { namespace } = resource.metadata;
  const message = `no workload in namespace ${namespace} carries these labels`;
  problems.warn({ resource, path: ['spec', 'selector'] }, message, 'the service has no endpoint');
}

/** Whether services have endpoints, with the workloads of each namespace by their labels. */
class Endpoints {
  readonly #registered: Registered;
  readonly #byLabel = new Map<string, ReadonlyMap<string, readonly RegisteredWorkload[]>>();

  constructor({ registered }: { readonly registered: Registered }) {
    this.#registered = registered;
  }

  has({ metadata: { namespace }, spec: { selector } }: Service): boolean {
    const byLabel = this.#labelsIn(namespace);
    const lists = Object.entries(selector).map(([name, value]) => byLabel.get(labelKey(name, value)) ?? []);
    const [first = [], ...others] = lists;
    const fewest = others.reduce((least, list) => (list.length < least.length ? list : least), first);
    return fewest.some((workload) => carries(workload, selector));
  }

  #labelsIn(namespace: string): ReadonlyMap<string, readonly RegisteredWorkload[]> {
    const known = this.#byLabel.get(namespace);
    if (known !== undefined) return known;
    const byLabel = new Map<string, RegisteredWorkload[]>();
    for (const workload of this.#registered.workloadsIn(namespace)) {
      for (const [name, value] of Object.entries(workload.labels)) {
        const others = byLabel.get(labelKey(name, value));
        if (others === undefined) byLabel.set(labelKey(name, value), [workload]);
        else others.push(workload);
      }
    }
    this.#byLabel.set(namespace, byLabel);
    return byLabel;
  }
}

/** Names that peers may use: those that are registered, and ServiceEntries. */
export class KnownNames {
  readonly #registered: Registered;
  readonly #entries: ReadonlySet<string>;

  constructor({ resources, registered }: { resources: readonly Resource[]; registered: Registered }) {
    this.#registered = registered;
    const entries = resources.filter((resource) => resource.kind === 'ServiceEntry');
    this.#entries = new Set(entries.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
  }

  checkPeers(resource: Resource, path: readonly PropertyKey[], peers: readonly Peer[], problems: ProblemList): void {
    for (const [index, peer] of peers.entries()) {
      for (const { field, to, missing, written } of referencesOf(peer)) {
        if (this.#registered.has(to, written) || (to === 'service' && this.#entries.has(written))) continue;
        const at = { resource, path: [...path, index, field] };
        problems.warn(at, missing(written), () =>
          meant(written, [...this.#registered.names(to), ...(to === 'service' ? this.#entries : [])]),
        );
      }
    }
  }
}

/** The names of other things that a peer is written with. */
export function* referencesOf(peer: Peer): Generator<{
  readonly field: string;
  readonly to: ReferencedName;
  readonly missing: (name: string) => string;
  readonly written: string;
}> {
  for (const field of peerFieldNames) {
    const found = writtenField(field, peer);
    const reference = found?.document.reference;
    if (reference === undefined || reference === null || typeof found?.written !== 'string') continue;
    yield { field: found.document.name, ...reference, written: found.written };
  }
}

function meant(written: string, known: Iterable<string>): string {
  const nearest = nearestName(written, known);
  return nearest === undefined ? 'it matches nothing until there is one' : `did you mean "${nearest}"?`;
}
