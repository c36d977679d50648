import { conditionText } from './figure-text.js';
import { type CaseSummary, medianOf } from './summary.js';

/** The report for programs: the last line of the standard output with `--json`. Values are medians over the rounds. */
export type JsonCase = {
  readonly id: string;
  readonly unit: string;
  readonly culvert: number | null;
  /** By name, without those that did not run or failed. */
  readonly comparators: Readonly<Record<string, number>>;
  /** Name of the best comparator with mutual TLS. */
  readonly best: string | null;
  /** Culvert's value divided by the best comparator's. */
  readonly ratio: number | null;
  readonly goal: string | null;
  readonly met: boolean | null;
  readonly better: 'higher' | 'lower';
  /** Every figure of every path: median, least and greatest of the rounds. */
  readonly figures: Readonly<Record<string, unknown>>;
  readonly failures: Readonly<Record<string, readonly string[]>>;
};

export function jsonCases(summaries: readonly CaseSummary[]): JsonCase[] {
  return summaries.map((summary) => {
    const { id, unit, best, ratio, met, better, conditions, paths } = summary;
    const measured = paths.filter(({ figures }) => figures['value'] !== undefined);
    const goal = conditions.map(({ condition }) => conditionText(condition, unit)).join(', ');
    return {
      id,
      unit,
      culvert: medianOf(
        measured.find(({ kind }) => kind === 'culvert'),
        'value',
      ),
      comparators: Object.fromEntries(
        measured
          .filter(({ kind }) => kind !== 'culvert')
          .map((path) => [path.path, medianOf(path, 'value') ?? Number.NaN]),
      ),
      best,
      ratio,
      goal: goal === '' ? null : goal,
      met,
      better,
      figures: Object.fromEntries(measured.map(({ path, figures }) => [path, figures])),
      failures: Object.fromEntries(
        paths.filter(({ failures }) => failures.length > 0).map(({ path, failures }) => [path, failures]),
      ),
    };
  });
}

/** Figures to six significant digits: more is noise. */
export function shortJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    typeof item === 'number' && !Number.isInteger(item) ? Number(item.toPrecision(6)) : item,
  );
}
