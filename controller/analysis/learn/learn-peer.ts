import { isIpv6, type IpAddress } from '../../../shared/address.js';
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import type { RegistryEntry, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryLookup } from '../registry/registry-lookup.js';
import { addressClass, isNamedExternal, type FlowParty } from '../../../shared/wire/flows.js';
import { serviceAccountName, workloadName, type NodeName, type WorkloadName } from '../../../shared/routing/names.js';

/** A peer as written in a rule. */
export type LearnedPeer = {
  readonly serviceAccount?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly workload?: string;
  readonly service?: string;
  readonly cidr?: string;
};

/** Peers, and what names of rules call them. */
export type NamedPeers = { readonly peers: readonly LearnedPeer[]; readonly name: string };

/** The peers for one end of a conversation, or why there are none. */
export type LearnedParty =
  | (NamedPeers & {
      /** The nodes of all workloads that the peers stand for. */
      readonly nodes: ReadonlySet<NodeName>;
      /** Peers that stand for this end alone; null: its workload is not known any more. */
      readonly alone: NamedPeers | null;
    })
  | { readonly why: string };

/** Labels that name an application, most specific convention first. */
const applicationLabels = ['app.kubernetes.io/name', 'app', 'k8s-app'];

/**
 * Chooses the narrowest peer that all replicas of an end share: a service account, plus a label if several applications
 * share the account.
 */
export class LearnedPeers {
  readonly #registry: RegistryLookup;
  readonly #trustDomain: string;
  readonly #externals: ReadonlySet<string>;
  /** By network of a record: the first workload by name that has an agent and an address in it. */
  readonly #inside = new Map<string, WorkloadName>();
  /** An account may have a thousand replicas, each in a hundred conversations. */
  readonly #parties = new Map<WorkloadEntry, LearnedParty>();

  constructor(init: {
    readonly registry: RegistryLookup;
    readonly trustDomain: string;
    readonly entries: readonly RegistryEntry[];
    readonly externals: readonly { readonly name: string }[];
  }) {
    this.#registry = init.registry;
    this.#trustDomain = init.trustDomain;
    this.#externals = new Set(init.externals.map(({ name }) => name));
    for (const entry of init.entries) {
      if (entry.kind !== 'workload' || entry.protocol !== 'hbone') continue;
      const name = workloadName(entry);
      for (const network of entry.addresses.map(addressClass)) {
        const known = this.#inside.get(network);
        if (known === undefined || name < known) this.#inside.set(network, name);
      }
    }
  }

  /**
   * A network with workloads in it is no destination: one agent says that its workload went there, and the rule would open
   * those workloads.
   */
  destination({ workload, cidr }: FlowParty): LearnedParty {
    if (workload === null) {
      if (cidr === null) return { why: 'the record does not say the destination' };
      const inside = this.#inside.get(cidr);
      if (inside !== undefined) return { why: `workloads have addresses in ${cidr}, such as ${inside}` };
      return this.#outside(cidr);
    }
    const entry = this.#registry.workload(workload);
    return entry === undefined ? { why: `the workload ${workload} is not registered` } : this.#ofWorkload(entry);
  }

  /** An unauthenticated source is known only by its address. */
  source({ workload, identity, cidr }: FlowParty): LearnedParty {
    const entry = workload === null ? undefined : this.#registry.workload(workload);
    if (identity !== null) return this.#proved(identity, entry);
    if (entry !== undefined) return ofAddresses(entry);
    if (workload !== null) return { why: `the workload ${workload} is not registered` };
    return cidr === null ? { why: 'the record does not say the source' } : this.#outside(cidr);
  }

  #proved(identity: SpiffeId, entry: WorkloadEntry | undefined): LearnedParty {
    const parsed = parseSpiffeId(identity);
    if (parsed?.trustDomain !== this.#trustDomain) return { why: `${identity} is of another trust domain` };
    if (entry !== undefined) {
      return entry.identity === identity ? this.#ofWorkload(entry) : { why: `${entry.name} had another identity` };
    }
    const serviceAccount = serviceAccountName(parsed);
    const nodes = nodesOf(this.#registry.runningAs(serviceAccount));
    return { peers: [{ serviceAccount }], name: serviceAccount, nodes, alone: null };
  }

  #outside(cidr: string): LearnedParty {
    if (!isNamedExternal(cidr)) return outsideParty([{ cidr }], cidr);
    // A service of the mesh may have the same name.
    if (!this.#externals.has(cidr)) return { why: `no ServiceEntry is called ${cidr}` };
    return outsideParty([{ service: cidr }], cidr);
  }

  #ofWorkload(entry: WorkloadEntry): LearnedParty {
    const known = this.#parties.get(entry);
    if (known !== undefined) return known;
    const party = this.#partyOf(entry);
    this.#parties.set(entry, party);
    return party;
  }

  #partyOf(entry: WorkloadEntry): LearnedParty {
    const serviceAccount = serviceAccountName(entry);
    const workload = workloadName(entry);
    const alone = { peers: [{ workload }], name: workload };
    const replicas = this.#registry.runningAs(serviceAccount);
    const labels = distinguishingLabel(entry, replicas);
    if (labels === undefined) {
      return { peers: [{ serviceAccount }], name: serviceAccount, nodes: nodesOf(replicas), alone };
    }
    const [[label, value] = ['', '']] = Object.entries(labels);
    const nodes = nodesOf(replicas.filter((replica) => replica.labels[label] === value));
    return { peers: [{ serviceAccount, labels }], name: `${serviceAccount}-${value}`, nodes, alone };
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
  return peers.length === 0 ? { why: `the workload ${name} has no address` } : outsideParty(peers, name);
}

/** Peers that stand for no workload by what it proves. */
function outsideParty(peers: readonly LearnedPeer[], name: string): LearnedParty {
  return { peers, name, nodes: new Set(), alone: { peers, name } };
}

function nodesOf(entries: readonly WorkloadEntry[]): Set<NodeName> {
  return new Set(entries.flatMap(({ node }) => node ?? []));
}

function fullPrefix(ip: IpAddress): string {
  return `${ip}/${isIpv6(ip) ? 128 : 32}`;
}
