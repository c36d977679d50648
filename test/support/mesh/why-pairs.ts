import assert from 'node:assert/strict';
import { isIpv6, type IpAddress } from '../../../shared/address.js';
import { parseDocuments } from '../../../controller/resources/parse/parse-documents.js';
import { compileSnapshot } from '../../../controller/compile/compile-snapshot.js';
import type { Decision, Party } from '../../../shared/policy/connection.js';
import { evaluate } from '../../../shared/policy/evaluate.js';
import { registryEntries } from '../../../controller/inventory/registry-entries.js';
import { mtlsOf } from '../../../shared/policy/required-mtls.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { targetPortOf } from '../../../shared/routing/destination.js';
import type { RegistryEntry, RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { RandomChoices } from './random-choices.js';
import { storePorts, whyPorts } from './why-world.js';

/** A connection that can be made in the lab, and the agent of which host decides about it first. */
export type Pair = {
  /** Name of the node in the lab that dials. */
  readonly source: string;
  readonly sourceIp: IpAddress;
  readonly ip: IpAddress;
  readonly port: number;
  readonly decidedOn: string;
  readonly isSourceMeshed: boolean;
  /** What it is an example of: what decides how, and which way it goes. */
  readonly kinds: readonly [decision: string, path: string];
};

/** A node that can dial or be dialled without being in the registry. */
export type OutsideNode = { readonly name: string; readonly ipv4: IpAddress; readonly ipv6: IpAddress };

const trustDomain = 'culvert.local';

/**
 * Every pair of the lab that an agent decides about, by the rules of `documents`. Which kind of decision it is comes from
 * the evaluator in this process: good enough to choose pairs, while what is tested is what controller and agents say.
 */
export function possiblePairs(init: {
  readonly documents: string;
  readonly outside: readonly OutsideNode[];
  readonly nowMs: number;
}): Pair[] {
  const world = new World(init);
  const workloads = world.entries.filter((entry) => entry.kind === 'workload');
  const services = world.entries.filter((entry) => entry.kind === 'service');
  const sources = [...workloads, ...init.outside].flatMap((source) =>
    addressesOf(source).map((ip) => ({ source, ip })),
  );
  return sources.flatMap(({ source, ip: sourceIp }) => {
    const ofFamily = (ip: IpAddress): boolean => isIpv6(ip) === isIpv6(sourceIp);
    const direct = [...workloads, ...init.outside]
      .filter((destination) => destination !== source)
      .flatMap((destination) => addressesOf(destination).filter(ofFamily))
      .flatMap((ip) => whyPorts.map((port) => world.pair(source, sourceIp, ip, port)));
    const viaService = services
      .flatMap((service) => service.vips.filter(ofFamily).map((ip) => ({ service, ip })))
      .flatMap(({ service, ip }) =>
        storePorts.map(({ port }) => world.viaService({ source, sourceIp, service, ip, port })),
      );
    return [...direct, ...viaService].filter((pair) => pair !== undefined);
  });
}

/** Takes in turn from each kind of decision and way, so that the rare ones are there too. */
export function choosePairs(pairs: readonly Pair[], count: number, random: RandomChoices): Pair[] {
  const byKind = new Map<string, Pair[]>();
  for (const pair of random.shuffled(pairs)) {
    const kind = pair.kinds.join(' ');
    byKind.set(kind, [...(byKind.get(kind) ?? []), pair]);
  }
  const chosen: Pair[] = [];
  for (let round = 0; chosen.length < count; round++) {
    const next = [...byKind.values()].flatMap((group) => group.slice(round, round + 1));
    assert.ok(next.length > 0, `there are only ${chosen.length} pairs`);
    chosen.push(...next);
  }
  return chosen.slice(0, count);
}

function addressesOf(node: WorkloadEntry | OutsideNode): readonly IpAddress[] {
  return 'addresses' in node ? node.addresses : [node.ipv4, node.ipv6];
}

class World {
  readonly entries: readonly RegistryEntry[];
  readonly #snapshot: Snapshot;
  readonly #nowMs: number;

  constructor(init: { readonly documents: string; readonly nowMs: number }) {
    const { resources, problems } = parseDocuments(init.documents);
    assert.deepEqual(problems, []);
    const meta = { revision: 1, createdAt: new Date(init.nowMs).toISOString(), createdBy: 'test', trustDomain };
    const compiled = compileSnapshot(resources, meta);
    const registered = registryEntries(resources, trustDomain);
    assert.ok('snapshot' in compiled && 'entries' in registered);
    this.#snapshot = compiled.snapshot;
    this.entries = registered.entries;
    this.#nowMs = init.nowMs;
  }

  /** Undefined: no agent is on this way, or nothing listens there. */
  pair(source: WorkloadEntry | OutsideNode, sourceIp: IpAddress, ip: IpAddress, port: number): Pair | undefined {
    const destination = this.#workloadAt(ip);
    const isSourceMeshed = isMeshed(source);
    const deciding = isSourceMeshed ? source : destination;
    if (deciding === undefined || !isMeshed(deciding) || deciding.node === null) return undefined;
    const decision = this.#decide(source, sourceIp, ip, port);
    const path = pathOf(source, destination);
    const kinds = [kindOf(decision, destination === undefined), `${path} ${decision.verdict}`] as const;
    return { source: source.name, sourceIp, ip, port, decidedOn: deciding.node, isSourceMeshed, kinds };
  }

  /** The kind is that of its first endpoint. */
  viaService(init: {
    readonly source: WorkloadEntry | OutsideNode;
    readonly sourceIp: IpAddress;
    readonly service: RegistryService;
    readonly ip: IpAddress;
    readonly port: number;
  }): Pair | undefined {
    const { source, sourceIp, service, ip, port } = init;
    const served = service.ports.find((candidate) => candidate.port === port);
    const endpoint = this.entries
      .filter((entry) => entry.kind === 'workload' && entry.namespace === service.namespace)
      .find((entry) => 'labels' in entry && entry !== source && entry.labels['tier'] === service.selector['tier']);
    if (!isMeshed(source) || endpoint?.kind !== 'workload' || served === undefined) return undefined;
    const targetPort = targetPortOf(served, endpoint);
    if (targetPort === undefined) return undefined;
    const address = endpoint.addresses.find((candidate) => isIpv6(candidate) === isIpv6(ip));
    const direct = address === undefined ? undefined : this.pair(source, sourceIp, address, targetPort);
    if (direct === undefined) return undefined;
    const [, way] = direct.kinds;
    return { ...direct, ip, port, kinds: ['service', way.replace(/^\w+/, 'service')] };
  }

  #decide(source: WorkloadEntry | OutsideNode, sourceIp: IpAddress, ip: IpAddress, port: number): Decision {
    const from = this.#party(sourceIp);
    const to = this.#party(ip);
    const isProved = isMeshed(source);
    const clock = { nowMs: () => this.#nowMs };
    const connection = { source: isProved ? from : { ...from, identity: null }, destination: to, port };
    const decision = evaluate(this.#snapshot, connection, clock);
    if (isProved || to.workload === null) return decision;
    const { mode, rule } = mtlsOf(this.#snapshot, to.workload, port);
    return mode === 'STRICT' ? { ...decision, verdict: 'deny', reason: 'SOURCE_UNKNOWN', rule, audited: [] } : decision;
  }

  #party(ip: IpAddress): Party {
    const workload = this.#workloadAt(ip) ?? null;
    return { ip, identity: workload?.identity ?? null, workload };
  }

  #workloadAt(ip: IpAddress): WorkloadEntry | undefined {
    return this.entries.find(
      (entry): entry is WorkloadEntry => entry.kind === 'workload' && entry.addresses.includes(ip),
    );
  }
}

function isMeshed(node: WorkloadEntry | OutsideNode): node is WorkloadEntry {
  return 'protocol' in node && node.protocol === 'hbone';
}

function pathOf(source: WorkloadEntry | OutsideNode, destination: WorkloadEntry | undefined): string {
  if (!isMeshed(source)) return 'addresses' in source ? 'unmeshed' : 'outside';
  if (destination === undefined) return 'external';
  if (!isMeshed(destination)) return 'plaintext';
  return source.node === destination.node ? 'local' : 'remote';
}

function kindOf({ rule, reason, verdict, audited }: Decision, isExternal: boolean): string {
  const by = {
    SegmentationRule: rule.tier ?? '',
    AuthorizationPolicy: 'authorization',
    NetworkPolicy: 'network',
    ClusterNetworkPolicy: 'cluster',
    AdminNetworkPolicy: 'cluster',
    BaselineAdminNetworkPolicy: 'cluster',
    PeerAuthentication: 'mtls',
    Mesh: reason === 'SOURCE_UNKNOWN' ? 'mesh mtls' : isExternal ? 'outbound' : 'default',
  }[rule.kind];
  const how = reason === 'POLICY_EXPIRED' ? 'expired' : verdict;
  return `${by} ${how}${audited.length > 0 ? ' audited' : ''}`;
}
