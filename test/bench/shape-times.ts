import { performance } from 'node:perf_hooks';
import { compileSnapshot } from '../../controller/compile/compile-snapshot.js';
import { validateSet } from '../../controller/compile/check/validate-set.js';
import { lintSet } from '../../controller/analysis/lint/lint-set.js';
import { parseDocuments } from '../../controller/resources/parse/parse-documents.js';
import { registryEntries } from '../../controller/inventory/registry-entries.js';
import { CulvertError } from '../../shared/errors.js';
import type { Clock, Connection } from '../../shared/policy/connection.js';
import { evaluate } from '../../shared/policy/evaluate.js';
import { prepareSnapshot } from '../../shared/policy/prepared/prepared-snapshot.js';
import { writeSnapshot } from '../../shared/wire/snapshot-text.js';
import { external, meta, partiesOf, pickOf, timeEach, timerCost, trustDomain, xorshift } from './decision-times.js';
import { growthExponents } from './growth.js';
import { Quantiles } from './quantiles.js';
import type { RuleShape } from './rule-shapes.js';

/** One shape at one size. */
export type ShapeTimes = {
  readonly size: number;
  readonly textBytes: number;
  readonly snapshotBytes: number;
  /** From text to snapshot, with all checks of an apply. */
  readonly compileMs: number;
  readonly lintMs: number;
  /** Work of an agent once per revision. */
  readonly prepareMs: number;
  /** Of decisions whose two sides were seen before. */
  readonly p99Us: number;
  /** Of decisions whose two sides are seen for the first time. */
  readonly coldP99Us: number;
};

/** Exponents of growth with the text between the two largest sizes: 1 is linear. Null: too short to tell. */
export type ShapeGrowth = {
  readonly compile: number | null;
  readonly bytes: number | null;
  readonly lint: number | null;
};

const connections = 20_000;
const ports = [80, 81, 443, 5432];
/** Shorter times are mostly those of the clock and of the garbage collector. */
const leastMs = 50;
const clock: Clock = { nowMs: () => Date.now() };

export function measureShape({ sizes, text }: RuleShape): { times: ShapeTimes[]; growth: ShapeGrowth } {
  // The workloads that every size has.
  const fixedBytes = Buffer.byteLength(text(0));
  const times = sizes.map((size) => timesOf(text(size), size));
  const exponent = (costOf: (each: ShapeTimes) => number, least: number): number | null => {
    const points = times.slice(-2).map((each) => ({ size: each.textBytes - fixedBytes, cost: costOf(each) }));
    return points.some(({ cost }) => cost < least) ? null : (growthExponents(points)[0] ?? null);
  };
  const growth = {
    compile: exponent(({ compileMs }) => compileMs, leastMs),
    bytes: exponent(({ snapshotBytes }) => snapshotBytes, 1),
    lint: exponent(({ lintMs }) => lintMs, leastMs),
  };
  return { times, growth };
}

function timesOf(text: string, size: number): ShapeTimes {
  const startMs = performance.now();
  const { resources, problems } = parseDocuments(text);
  const errors = [...problems, ...validateSet(resources)].filter(({ severity }) => severity === 'error');
  const compiled = compileSnapshot(resources, meta);
  const compileMs = performance.now() - startMs;
  const registered = registryEntries(resources, trustDomain);
  if (errors.length > 0 || 'problems' in compiled || 'problems' in registered) {
    throw new CulvertError({
      code: 'BENCH_DOCUMENTS',
      message: `the documents are wrong: ${JSON.stringify(errors[0])}`,
    });
  }
  const { snapshot } = compiled;
  const { entries } = registered;
  const lintStartMs = performance.now();
  lintSet({ snapshot, entries, clock, resources });
  const lintMs = performance.now() - lintStartMs;
  const prepareStartMs = performance.now();
  prepareSnapshot(snapshot);
  const prepareMs = performance.now() - prepareStartMs;

  const random = xorshift(0x5eed);
  const parties = partiesOf(entries);
  const ends = [...parties, ...Array.from({ length: 50 }, (_, index) => external(`10.0.${index}.${index}`))];
  const asked = Array.from({ length: connections }, (): Connection => ({
    source: pickOf(ends, random()),
    destination: pickOf(parties, random()),
    port: pickOf(ports, random()),
  }));
  // The first run compiles the code and sees every party.
  for (const connection of asked) evaluate(snapshot, connection, clock);
  const timerUs = timerCost();
  const p99Us = new Quantiles({ values: timeEach(snapshot, asked, timerUs) }).at(0.99);
  const strangers = parties.slice(0, 200).map((party, index): Connection => ({
    source: party,
    destination: parties[parties.length - 1 - index] ?? party,
    port: 80,
  }));
  const fresh = { ...snapshot };
  prepareSnapshot(fresh);
  const coldP99Us = new Quantiles({ values: timeEach(fresh, strangers, timerUs) }).at(0.99);
  const snapshotBytes = Buffer.byteLength(writeSnapshot(snapshot));
  return { size, textBytes: Buffer.byteLength(text), snapshotBytes, compileMs, lintMs, prepareMs, p99Us, coldP99Us };
}
