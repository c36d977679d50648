import { describeError } from '../../shared/errors.js';
import type { Adapter } from './adapter-file.js';
import { AdapterPath } from './adapter-path.js';
import type { BenchCase, CaseContext, Figures } from './bench-case.js';
import { benchCases } from './bench-cases.js';
import { buildBenchLab } from './bench-lab.js';
import type { BenchPath } from './bench-path.js';
import { serviceNames } from './bench-ports.js';
import type { CaseId } from './case-ids.js';
import { CulvertPath } from './culvert-path.js';
import { directPath } from './direct-path.js';
import { caseGoals } from './goals.js';
import { startServices } from './services.js';
import { type CaseSummary, type Outcome, summarize } from './summary.js';

export type BenchPlan = {
  readonly caseIds: readonly CaseId[];
  readonly rounds: number;
  /** Duration of one load. */
  readonly seconds: number;
  /** Threads or processes of each side of each path that may move bytes. */
  readonly workers: number;
  readonly isQuick: boolean;
  readonly adapters: readonly Adapter[];
  /** Both workloads on one host: no tunnel. */
  readonly isSameHost: boolean;
  /** Further options of both agents. */
  readonly engineArgs: readonly string[];
};

/**
 * Seconds of load before the first round, on a path of compiled programs and on the mesh. An agent runs for weeks and its
 * code is compiled while it runs: work per connection needs thousands of connections in each thread to reach full speed.
 */
const warmUpSeconds: Readonly<Partial<Record<CaseId, { readonly others: number; readonly mesh: number }>>> = {
  'bulk-4': { others: 1, mesh: 4 },
  'keepalive-32': { others: 1, mesh: 5 },
  newconn: { others: 1, mesh: 25 },
  'small-messages': { others: 1, mesh: 2 },
};
/** The short run has no time for a longer warm-up. */
const mostWhenQuick = 3;
const settleMs = 1500;

/**
 * Measures every case on every path in one lab, round by round, with the paths taking turns. When a path fails in a case, the
 * report says so and the run goes on. `say` receives progress.
 */
export async function runBench(plan: BenchPlan, say: (line: string) => void): Promise<readonly CaseSummary[]> {
  say('building the lab');
  await using lab = await buildBenchLab({ adapters: plan.adapters.length, isSameHost: plan.isSameHost });
  const cases = plan.caseIds.map((id) => benchCases[id]);
  const needed = serviceNames.filter((service) => cases.some(({ services }) => services.includes(service)));
  await startServices(lab, needed);
  const adapterPaths = plan.adapters.map((adapter, index) => new AdapterPath({ adapter, lab, index }));
  const paths = [new CulvertPath({ lab, engineArgs: plan.engineArgs }), directPath(lab), ...adapterPaths];
  const ledger = new Ledger({ cases, paths });
  const context = { lab, seconds: plan.seconds, isQuick: plan.isQuick };
  await measureWithOneWorker(plan, cases, paths, ledger, context, say);
  await measureUnderLoad(plan, cases, paths, ledger, context, say);
  return cases.map((benchCase) =>
    summarize(benchCase, ledger.outcomes(benchCase), plan.isSameHost ? [] : (caseGoals[benchCase.id] ?? [])),
  );
}

/** Every round starts new processes: memory left by an earlier load would hide what this one needs. */
async function measureWithOneWorker(
  { rounds }: BenchPlan,
  all: readonly BenchCase[],
  paths: readonly BenchPath[],
  ledger: Ledger,
  context: CaseContext,
  say: (line: string) => void,
): Promise<void> {
  // What makes no load first: it wants processes to which nothing has happened yet.
  const cases = all
    .filter(({ workers }) => workers === 'one')
    .toSorted((a, b) => Number(b.isPassive ?? false) - Number(a.isPassive ?? false));
  if (cases.length === 0) return;
  for (const path of paths) path.setWorkers(1);
  for (let round = 0; round < rounds; round++) {
    await Promise.all(paths.map((path) => path.stop()));
    for (const path of paths) await path.open('peer');
    await new Promise((resolve) => setTimeout(resolve, settleMs));
    for (const benchCase of cases) {
      say(`round ${round + 1} of ${rounds}: ${benchCase.title}`);
      const turn = ledger.taking(benchCase, inTurn(paths, round));
      if (benchCase.isPassive === true) {
        await Promise.all(turn.map((path) => ledger.measure(benchCase, path, context)));
      } else {
        for (const path of turn) await ledger.measure(benchCase, path, context);
      }
    }
  }
  await Promise.all(paths.map((path) => path.stop()));
}

async function measureUnderLoad(
  { rounds, workers, isQuick }: BenchPlan,
  all: readonly BenchCase[],
  paths: readonly BenchPath[],
  ledger: Ledger,
  context: CaseContext,
  say: (line: string) => void,
): Promise<void> {
  const cases = all.filter((benchCase) => benchCase.workers === 'all');
  if (cases.length === 0) return;
  for (const path of paths) path.setWorkers(workers);
  say('warming up');
  for (const benchCase of cases) {
    const wanted = warmUpSeconds[benchCase.id];
    if (wanted === undefined) continue;
    const limit = isQuick ? mostWhenQuick : Infinity;
    for (const path of ledger.taking(benchCase, paths)) {
      // Only the mesh is compiled while it runs; the others only fill their caches.
      if (isQuick && path.kind !== 'culvert') continue;
      const seconds = Math.min(limit, path.kind === 'culvert' ? wanted.mesh : wanted.others);
      try {
        for (const service of benchCase.services) await path.open(service);
        await benchCase.measure(path, { ...context, seconds });
      } catch {
        // The measurement says why.
      }
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const benchCase of cases) {
      say(`round ${round + 1} of ${rounds}: ${benchCase.title}`);
      for (const path of ledger.taking(benchCase, inTurn(paths, round))) {
        await ledger.measure(benchCase, path, context);
      }
    }
  }
}

/** Each round starts with another path, so that no path always follows the same one. */
function inTurn(paths: readonly BenchPath[], round: number): BenchPath[] {
  const at = round % paths.length;
  return [...paths.slice(at), ...paths.slice(0, at)];
}

type Entry = { readonly rounds: Figures[]; readonly failures: string[]; readonly leftOut: string | null };

/** The measurements so far, per case and path. */
class Ledger {
  readonly #paths: readonly BenchPath[];
  readonly #entries = new Map<string, Entry>();

  constructor(init: { cases: readonly BenchCase[]; paths: readonly BenchPath[] }) {
    this.#paths = init.paths;
    for (const benchCase of init.cases) {
      for (const path of init.paths) {
        const entry = { rounds: [], failures: [], leftOut: whyLeftOut(benchCase, path) };
        this.#entries.set(keyOf(benchCase, path), entry);
      }
    }
  }

  taking(benchCase: BenchCase, paths: readonly BenchPath[]): BenchPath[] {
    return paths.filter((path) => this.#entry(benchCase, path).leftOut === null);
  }

  async measure(benchCase: BenchCase, path: BenchPath, context: CaseContext): Promise<void> {
    const entry = this.#entry(benchCase, path);
    try {
      for (const service of benchCase.services) await path.open(service);
      entry.rounds.push(await benchCase.measure(path, context));
    } catch (error) {
      entry.failures.push(describeError(error));
    }
  }

  outcomes(benchCase: BenchCase): Outcome[] {
    return this.#paths.map((path) => {
      const { name, title, kind } = path;
      return { path: name, title, kind, ...this.#entry(benchCase, path) };
    });
  }

  #entry(benchCase: BenchCase, path: BenchPath): Entry {
    const entry = this.#entries.get(keyOf(benchCase, path));
    if (entry === undefined) throw new Error(`${benchCase.id} was not planned for ${path.name}`);
    return entry;
  }
}

function keyOf(benchCase: BenchCase, path: BenchPath): string {
  return `${benchCase.id} ${path.name}`;
}

function whyLeftOut({ id, isOfProxies }: BenchCase, path: BenchPath): string | null {
  if (path.kind === 'direct') return isOfProxies === true ? 'there is no proxy to look at' : null;
  if (!(path instanceof AdapterPath)) return null;
  const { cases, without } = path.adapter;
  return without[id] ?? (cases === undefined || cases.includes(id) ? null : `only in ${cases.join(', ')}`);
}
