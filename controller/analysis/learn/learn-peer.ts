import { isIpv6, type IpAddress } from '../../../shared/address.js';
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import { isNamespacedName } from '../../resources/kinds/field-schemas.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryLookup } from '../registry/registry-lookup.js';
import { isNamedExternal, type FlowParty } from '../../../shared/wire/flows.js';
import { serviceAccountName, workloadName } from '../../../shared/routing/names.js';

/** A peer as written in a rule. */
export type LearnedPeer = {
  readonly serviceAccount?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly workload?: string;
  readonly service?: string;
  readonly cidr?: string;
};

/** The peers for one end of a conversation, or why there are none. */
export type LearnedParty = { readonly peers: readonly LearnedPeer[]; readonly name: string } | { readonly why: string };

/** Labels that name an application, most specific convention first. */
const applicationLabels = ['app.kubernetes.io/name', 'app', 'k8s-app'];

/**
 * Chooses the narrowest peer that all replicas of an end share: a service account, plus a label if several applications
 * share the account.
 */
export class LearnedPeers {
  readonly #registry: RegistryLookup;
  readonly #trustDomain: string;

  constructor({ registry, trustDomain }: { registry: RegistryLookup; trustDomain: string }) {
    this.#registry = registry;
    this.#trustDomain = trustDomain;
  }

  destination({ workload, cidr }: FlowParty): LearnedParty {
    if (workload === null) return cidr === null ? { why: 'the record does not say the destination' } : outside(cidr);
    const entry = this.#registry.workload(workload);
    return entry === undefined ? { why: `the workload ${workload} is not registered` } : this.#ofWorkload(entry);
  }

  /** An unauthenticated source is known only by its address. */
  source({ workload, identity, cidr }: FlowParty): LearnedParty {
    const entry = workload === null ? undefined : this.#registry.workload(workload);
    if (identity !== null) return this.#proved(identity, entry);
    if (entry !== undefined) return ofAddresses(entry);
    if (workload !== null) return { why: `the workload ${workload} is not registered` };
    return cidr === null ? { why: 'the record does not say the source' } : outside(cidr);
  }

  #proved(identity: SpiffeId, entry: WorkloadEntry | undefined): LearnedParty {
    const parsed = parseSpiffeId(identity);
    if (parsed?.trustDomain !== this.#trustDomain) return { why: `${identity} is of another trust domain` };
    if (entry !== undefined) {
      return entry.identity === identity ? this.#ofWorkload(entry) : { why: `${entry.name} had another identity` };
    }
    const serviceAccount = serviceAccountName(parsed);
    return { peers: [{ serviceAccount }], name: serviceAccount };
  }

  #ofWorkload(entry: WorkloadEntry): LearnedParty {
    const serviceAccount = serviceAccountName(entry);
    const replicas = this.#registry.runningAs(serviceAccount);
    const labels = distinguishingLabel(entry, replicas);
    if (labels === undefined) return { peers: [{ serviceAccount }], name: serviceAccount };
    return { peers: [{ serviceAccount, labels }], name: `${serviceAccount}-${Object.values(labels)[0] ?? ''}` };
  }
}

/** The label that distinguishes the applications of one service account; undefined: there is only one application. */
function distinguishingLabel(
  entry: WorkloadEntry,
  replicas: readonly WorkloadEntry[],
): Record<string, string> | undefined {
  for (const label of applicationLabels) {
    const values = new Set(replicas.map(({ labels }) => labels[label]));
    const own = entry.labels[label];
    if (own !== undefined && values.size > 1) return { [label]: own };
  }
  return undefined;
}

function ofAddresses(entry: WorkloadEntry): LearnedParty {
  const peers = entry.addresses.map((ip) => ({ cidr: fullPrefix(ip) }));
  const name = workloadName(entry);
  return peers.length === 0 ? { why: `the workload ${name} has no address` } : { peers, name };
}

function fullPrefix(ip: IpAddress): string {
  return `${ip}/${isIpv6(ip) ? 128 : 32}`;
}

function outside(cidr: string): LearnedParty {
  if (!isNamedExternal(cidr)) return { peers: [{ cidr }], name: cidr };
  return isNamespacedName(cidr) ? { peers: [{ service: cidr }], name: cidr } : { why: `${cidr} is no name` };
}
