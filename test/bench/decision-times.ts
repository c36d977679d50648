import { performance } from 'node:perf_hooks';
import { parseIp, type IpAddress } from '../../shared/address.js';
import { CulvertError } from '../../shared/errors.js';
import { parseDocuments } from '../../controller/resources/parse/parse-documents.js';
import { compileSnapshot } from '../../controller/compile/compile-snapshot.js';
import type { Clock, Connection, Party } from '../../shared/policy/connection.js';
import { evaluate } from '../../shared/policy/evaluate.js';
import { rangesOf } from '../../shared/policy/prepared/prepared-rule.js';
import { prepareSnapshot } from '../../shared/policy/prepared/prepared-snapshot.js';
import { partyWorkload } from '../../controller/analysis/pairs/mesh-party.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import { registryEntries } from '../../controller/inventory/registry-entries.js';
import { isSegmentRef, type RulePeer, type Snapshot } from '../../shared/policy/snapshot.js';
import { Quantiles } from './quantiles.js';
import type { RuleDocuments } from './rule-documents.js';

/** Times in microseconds unless the name says otherwise. `warm`: both sides were seen before under this revision. */
export type DecisionTimes = {
  readonly decisions: number;
  readonly meanUs: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  /** Decisions about two sides that are both seen for the first time. */
  readonly coldPairs: number;
  readonly coldP50Us: number;
  readonly coldP99Us: number;
  /** Cost of reading the clock, which is subtracted from each time. */
  readonly timerUs: number;
  /** Work of an agent once per revision. */
  readonly prepareMs: number;
  readonly snapshotBytes: number;
  /** Share of the decisions that allow. */
  readonly allowed: number;
};

export const trustDomain = 'bench.test';
const externalAddresses = 200;
/** For half of the connections a rule names both service accounts; the others are random pairs. */
const ruledShare = 0.5;
const externalShare = 0.05;
const warmConnections = 250_000;
export const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'bench', trustDomain };
const clock: Clock = { nowMs: () => Date.now() };

/** Times every decision alone, so that the tail includes garbage collection and other delays. */
export function measureDecisions({ text, ports }: RuleDocuments): DecisionTimes {
  const { snapshot, parties } = compile(text);
  const random = xorshift(0x5eed);
  const externals = Array.from({ length: externalAddresses }, (_, index) =>
    external(`203.0.${index % 50}.${1 + index}`),
  );
  const wanted = ruledPairs(snapshot, parties);
  const connections = Array.from({ length: warmConnections }, (): Connection => {
    if (wanted.length > 0 && random() < ruledShare) {
      const { sources, destinations, port } = pickOf(wanted, random());
      return { source: pickOf(sources, random()), destination: pickOf(destinations, random()), port };
    }
    const destination = random() < externalShare ? pickOf(externals, random()) : pickOf(parties, random());
    return { source: pickOf(parties, random()), destination, port: pickOf(ports, random()) };
  });

  let allowed = 0;
  const startMs = performance.now();
  prepareSnapshot(snapshot);
  const prepareMs = performance.now() - startMs;
  // The first run compiles the code and sees every party; only its verdicts are counted.
  for (const connection of connections) if (evaluate(snapshot, connection, clock).verdict === 'allow') allowed += 1;

  const batchMs = performance.now();
  for (const connection of connections) evaluate(snapshot, connection, clock);
  const meanUs = ((performance.now() - batchMs) * 1000) / connections.length;

  const timerUs = timerCost();
  const warm = new Quantiles({ values: timeEach(snapshot, connections, timerUs) });
  const strangers = strangerPairs(parties, ports, random);
  const cold = new Quantiles({ values: timeEach(prepared({ ...snapshot }), strangers, timerUs) });
  return {
    decisions: connections.length,
    meanUs,
    p50Us: warm.at(0.5),
    p99Us: warm.at(0.99),
    p999Us: warm.at(0.999),
    coldPairs: strangers.length,
    coldP50Us: cold.at(0.5),
    coldP99Us: cold.at(0.99),
    timerUs,
    prepareMs,
    snapshotBytes: Buffer.byteLength(JSON.stringify(snapshot)),
    allowed: allowed / connections.length,
  };
}

function compile(text: string): { snapshot: Snapshot; parties: Party[] } {
  const { resources, problems } = parseDocuments(text);
  const compiled = compileSnapshot(resources, meta);
  const registered = registryEntries(resources, trustDomain);
  if (problems.length > 0 || 'problems' in compiled || 'problems' in registered) {
    throw new CulvertError({
      code: 'BENCH_DOCUMENTS',
      message: `the documents are wrong: ${JSON.stringify(problems)}`,
    });
  }
  return { snapshot: compiled.snapshot, parties: partiesOf(registered.entries) };
}

/** Every workload at each of its addresses. */
export function partiesOf(entries: readonly RegistryEntry[]): Party[] {
  return entries.flatMap((entry) => {
    if (entry.kind !== 'workload') return [];
    const workload = partyWorkload(entry);
    return entry.addresses.map((ip): Party => ({ ip, identity: entry.identity, workload }));
  });
}

function accountsOf(peer: RulePeer | undefined): readonly string[] {
  return peer === undefined || isSegmentRef(peer) ? [] : (peer.serviceAccounts ?? []);
}

type RuledPair = { readonly sources: Party[]; readonly destinations: Party[]; readonly port: number };

function ruledPairs({ rules }: Snapshot, parties: readonly Party[]): RuledPair[] {
  const byAccount = new Map<string, Party[]>();
  for (const party of parties) {
    const account = `${party.workload?.namespace}/${party.workload?.serviceAccount}`;
    const known = byAccount.get(account);
    if (known === undefined) byAccount.set(account, [party]);
    else known.push(party);
  }
  return rules.flatMap(({ from, to, ports }) => {
    const [source, destination] = [from, to].map(([peer]) => byAccount.get(accountsOf(peer)[0] ?? ''));
    const [port] = rangesOf(ports)[0] ?? [];
    if (source === undefined || destination === undefined || port === undefined) return [];
    return [{ sources: source, destinations: destination, port }];
  });
}

/** In microseconds. */
export function timeEach(snapshot: Snapshot, connections: readonly Connection[], timerUs: number): Float64Array {
  const times = new Float64Array(connections.length);
  for (const [index, connection] of connections.entries()) {
    const startMs = performance.now();
    evaluate(snapshot, connection, clock);
    times[index] = Math.max(0, (performance.now() - startMs) * 1000 - timerUs);
  }
  return times;
}

/** The median of reading the clock twice in a row, in microseconds. */
export function timerCost(): number {
  const values = new Float64Array(100_000);
  for (let index = 0; index < values.length; index += 1) {
    const startMs = performance.now();
    values[index] = (performance.now() - startMs) * 1000;
  }
  return new Quantiles({ values }).at(0.5);
}

/** Each party is in one pair only. */
function strangerPairs(parties: readonly Party[], ports: readonly number[], random: () => number): Connection[] {
  const shuffled = parties.map((party) => ({ party, key: random() })).sort((a, b) => a.key - b.key);
  const pairs: Connection[] = [];
  for (let index = 0; index + 1 < shuffled.length; index += 2) {
    const [source, destination] = [shuffled[index]?.party, shuffled[index + 1]?.party];
    if (source !== undefined && destination !== undefined) {
      pairs.push({ source, destination, port: pickOf(ports, random()) });
    }
  }
  return pairs;
}

function prepared(snapshot: Snapshot): Snapshot {
  prepareSnapshot(snapshot);
  return snapshot;
}

export function external(address: string): Party {
  return { ip: parsed(address), identity: null, workload: null };
}

function parsed(text: string): IpAddress {
  const ip = parseIp(text);
  if (ip === undefined) throw new RangeError(`${text} is not an address`);
  return ip;
}

export function pickOf<T>(values: readonly T[], at: number): T {
  const value = values[Math.floor(at * values.length)];
  if (value === undefined) throw new RangeError('there is nothing to pick from');
  return value;
}

/** Numbers from 0 to below 1, the same in every run. Marsaglia, "Xorshift RNGs" (2003). */
export function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
