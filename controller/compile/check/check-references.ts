import { nearestName } from '../../../shared/nearest-name.js';
import { selects } from '../../../shared/routing/registry-view.js';
import type { AuthorizationPolicy } from '../../resources/kinds/authorization-policy.js';
import { writtenField, type Peer } from '../../resources/kinds/peer.js';
import type { ReferencedName } from '../../resources/match/peer-field.js';
import { peerFieldNames } from '../../resources/match/peer-fields.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { Workload } from '../../resources/kinds/workload.js';
import { serviceAccountName, serviceName, workloadName } from '../../../shared/routing/names.js';

/**
 * Warns of names that nothing has: they are often typing mistakes, but a rule may come before its workloads. (Missing
 * segments are errors; the expansion of segments finds them.)
 */
export function checkReferences(resources: readonly Resource[], problems: ProblemList): void {
  const known = new KnownNames({ resources });
  for (const resource of resources) {
    switch (resource.kind) {
      case 'SegmentationRule':
        known.checkPeers(resource, ['spec', 'from'], resource.spec.from ?? [], problems);
        known.checkPeers(resource, ['spec', 'to'], resource.spec.to ?? [], problems);
        break;
      case 'Segment':
        known.checkPeers(resource, ['spec', 'members'], resource.spec.members, problems);
        break;
      case 'Service': {
        const { namespace } = resource.metadata;
        const message = `no workload in namespace ${namespace} carries these labels`;
        if (!known.hasEndpoint({ namespace, selector: resource.spec.selector }))
          problems.warn({ resource, path: ['spec', 'selector'] }, message, 'the service has no endpoint');
        break;
      }
      case 'AuthorizationPolicy':
        checkPatterns(resource, problems);
        break;
      default:
        break;
    }
  }
}

class KnownNames {
  readonly #names: Readonly<Record<ReferencedName, Set<string>>> = {
    workload: new Set(),
    'service account': new Set(),
    service: new Set(),
  };
  readonly #byNamespace = new Map<string, Workload[]>();

  constructor({ resources }: { resources: readonly Resource[] }) {
    for (const resource of resources) {
      if (resource.kind === 'Service' || resource.kind === 'ServiceEntry') {
        this.#names.service.add(serviceName(resource.metadata));
      }
      if (resource.kind === 'Workload') this.#addWorkload(resource);
    }
  }

  #addWorkload(workload: Workload): void {
    const { namespace } = workload.metadata;
    this.#names.workload.add(workloadName(workload.metadata));
    this.#names['service account'].add(serviceAccountName({ namespace, serviceAccount: workload.spec.serviceAccount }));
    const others = this.#byNamespace.get(namespace);
    if (others === undefined) this.#byNamespace.set(namespace, [workload]);
    else others.push(workload);
  }

  hasEndpoint(service: Parameters<typeof selects>[0]): boolean {
    const candidates = this.#byNamespace.get(service.namespace) ?? [];
    return candidates.some(({ metadata: { namespace, labels = {} } }) => selects(service, { namespace, labels }));
  }

  checkPeers(resource: Resource, path: readonly PropertyKey[], peers: readonly Peer[], problems: ProblemList): void {
    for (const [index, peer] of peers.entries()) {
      for (const field of peerFieldNames) {
        const found = writtenField(field, peer);
        const reference = found?.document.reference;
        if (reference === undefined || reference === null || typeof found?.written !== 'string') continue;
        const { written } = found;
        const known = this.#names[reference.to];
        if (known.has(written)) continue;
        const at = { resource, path: [...path, index, found.document.name] };
        problems.warn(at, reference.missing(written), () => meant(written, known));
      }
    }
  }
}

function meant(written: string, known: Iterable<string>): string {
  const nearest = nearestName(written, known);
  return nearest === undefined ? 'it matches nothing until there is one' : `did you mean "${nearest}"?`;
}

const nameFields = ['principals', 'notPrincipals', 'namespaces', 'notNamespaces'] as const;

/** `*` counts at the beginning or the end only, in Istio too; anywhere else it is a letter, which no name has. */
function checkPatterns(policy: AuthorizationPolicy, problems: ProblemList): void {
  for (const [ruleIndex, rule] of (policy.spec.rules ?? []).entries()) {
    for (const [fromIndex, { source }] of (rule.from ?? []).entries()) {
      for (const field of nameFields) {
        for (const [index, text] of (source[field] ?? []).entries()) {
          if (!/.\*./.test(text) && !/^\*.*\*$/.test(text)) continue;
          const path = ['spec', 'rules', ruleIndex, 'from', fromIndex, 'source', field, index];
          const message = `"${text}" matches nothing: "*" counts at the beginning or at the end, not both`;
          problems.warn({ resource: policy, path }, message, 'for example "cluster.local/ns/billing/*"');
        }
      }
    }
  }
}
