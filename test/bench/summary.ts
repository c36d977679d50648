import type { BenchCase, Figures } from './bench-case.js';
import type { CaseId } from './case-ids.js';
import { type Condition, isMet } from './goals.js';
import { type Spread, spreadOf } from './spread.js';

/** The results of one path in one case, over the rounds. */
export type Outcome = {
  readonly path: string;
  readonly title: string;
  readonly kind: 'culvert' | 'direct' | 'mutual' | 'none';
  readonly rounds: readonly Figures[];
  /** Why rounds gave no figure. */
  readonly failures: readonly string[];
  /** Why it did not run; null when it did. */
  readonly leftOut: string | null;
};

/** One row of the report. */
export type CaseSummary = {
  readonly id: CaseId;
  readonly title: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly paths: readonly PathSummary[];
  /** Name of the best comparator with mutual TLS; null when none was measured. */
  readonly best: string | null;
  /** Culvert's value divided by that of the best comparator; null without one, or when its value is 0. */
  readonly ratio: number | null;
  readonly conditions: readonly ConditionSummary[];
  /** Null without a goal, or when its reference was not measured. */
  readonly met: boolean | null;
};

export type PathSummary = Omit<Outcome, 'rounds'> & {
  /** By name, `value` first; empty when no round gave a figure. */
  readonly figures: Readonly<Record<string, Spread>>;
};

export type ConditionSummary = {
  readonly condition: Condition;
  /** Medians; null when one was not measured. */
  readonly figure: number | null;
  readonly reference: number | null;
  readonly met: boolean | null;
};

/** Medians over the rounds, the best comparator, and the goal. Pure. */
export function summarize(
  benchCase: Pick<BenchCase, 'id' | 'title' | 'unit' | 'better'>,
  outcomes: readonly Outcome[],
  goal: readonly Condition[],
): CaseSummary {
  const { id, title, unit, better } = benchCase;
  const paths = outcomes.map(({ rounds, ...rest }) => ({ ...rest, figures: spreads(rounds) }));
  const best = bestOf(paths, better);
  const culvert = paths.find(({ kind }) => kind === 'culvert');
  const conditions = goal.map((condition) => judge(condition, paths, best?.path ?? null));
  const [ours, theirs] = [medianOf(culvert, 'value'), medianOf(best, 'value')];
  return {
    id,
    title,
    unit,
    better,
    paths,
    best: best?.path ?? null,
    ratio: ours === null || theirs === null || theirs === 0 ? null : ours / theirs,
    conditions,
    met: allMet(conditions, culvert),
  };
}

export function medianOf(path: PathSummary | undefined, figure: string): number | null {
  return path?.figures[figure]?.median ?? null;
}

function spreads(rounds: readonly Figures[]): Record<string, Spread> {
  const names = Object.keys(rounds[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, spreadOf(rounds.flatMap((figures) => figures[name] ?? []))]));
}

function bestOf(paths: readonly PathSummary[], better: 'higher' | 'lower'): PathSummary | undefined {
  const sign = better === 'higher' ? -1 : 1;
  return paths
    .filter((path) => path.kind === 'mutual' && medianOf(path, 'value') !== null)
    .toSorted((a, b) => sign * ((medianOf(a, 'value') ?? 0) - (medianOf(b, 'value') ?? 0)))[0];
}

function judge(condition: Condition, paths: readonly PathSummary[], best: string | null): ConditionSummary {
  const { figure: name, of } = condition;
  const figure = medianOf(
    paths.find(({ kind }) => kind === 'culvert'),
    name,
  );
  const other = of === 'best' ? best : of;
  const reference =
    of === 'itself'
      ? 1
      : medianOf(
          paths.find(({ path }) => path === other),
          name,
        );
  const met = figure === null || reference === null ? null : isMet(condition, figure, reference);
  return { condition, figure, reference, met };
}

/** A case in which Culvert failed misses its goal; one without its comparator has no result. */
function allMet(conditions: readonly ConditionSummary[], culvert: PathSummary | undefined): boolean | null {
  if (conditions.length === 0) return null;
  if (culvert !== undefined && culvert.failures.length > 0) return false;
  if (conditions.some(({ met }) => met === false)) return false;
  return conditions.every(({ met }) => met === true) ? true : null;
}
