import { nearestName } from '../../../shared/nearest-name.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import type { ReferencedName } from '../../resources/match/peer-field.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { Service } from '../../resources/kinds/service.js';
import { labelKey } from '../../../shared/policy/prepared/policy-scope.js';
import { referencesIn } from './references.js';
import { carries, hasEndpoint, type Registered, type RegisteredWorkload } from './registered.js';

/**
 * Warns about names that do not exist: often typing mistakes, but a rule may be written before its workloads. Missing
 * segments are errors, which the expansion of segments reports. `trustDomain`: of the mesh; undefined: not known. `isLost`:
 * whether the change that is checked removes what has this name.
 */
export function checkReferences(
  resources: readonly Resource[],
  registered: Registered,
  problems: ProblemList,
  trustDomain?: string,
  isLost: (to: ReferencedName, name: string) => boolean = () => false,
): void {
  const known = new KnownNames({ resources, registered, isLost });
  const endpoints = new Endpoints({ registered });
  for (const resource of resources) {
    known.check(resource, trustDomain, problems);
    if (resource.kind === 'Service' && !endpoints.has(resource)) warnOfSelector(resource, problems);
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

/** Names that documents may use: those that are registered, and ServiceEntries. */
class KnownNames {
  readonly #registered: Registered;
  readonly #entries: ReadonlySet<string>;
  readonly #isLost: (to: ReferencedName, name: string) => boolean;

  constructor(init: {
    readonly resources: readonly Resource[];
    readonly registered: Registered;
    readonly isLost: (to: ReferencedName, name: string) => boolean;
  }) {
    const { resources, registered, isLost } = init;
    this.#registered = registered;
    this.#isLost = isLost;
    const entries = resources.filter((resource) => resource.kind === 'ServiceEntry');
    this.#entries = new Set(entries.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
  }

  check(resource: Resource, trustDomain: string | undefined, problems: ProblemList): void {
    for (const { path, to, written, missing } of referencesIn(resource, trustDomain)) {
      if (this.#registered.has(to, written) || (to === 'service' && this.#entries.has(written))) continue;
      if (this.#isLost(to, written)) {
        const message = `names the ${to} ${written}, which this change removes`;
        problems.warn({ resource, path }, message, 'it matches nothing until there is one again');
        continue;
      }
      problems.warn({ resource, path }, missing, () =>
        meant(written, [...this.#registered.names(to), ...(to === 'service' ? this.#entries : [])]),
      );
    }
  }
}

function meant(written: string, known: Iterable<string>): string {
  const nearest = nearestName(written, known);
  return nearest === undefined ? 'it matches nothing until there is one' : `did you mean "${nearest}"?`;
}
