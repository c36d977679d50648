import { conditionText } from './figure-text.js';
import { type CaseSummary, medianOf, type PathSummary } from './summary.js';

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
  /** The four figures that every path has, by its name. */
  readonly paths: Readonly<Record<string, JsonPath>>;
  /** Every figure of every path: median, least and greatest of the rounds. */
  readonly figures: Readonly<Record<string, unknown>>;
  readonly failures: Readonly<Record<string, readonly string[]>>;
};

/** Medians of one path in one case; null where the case does not measure it. */
export type JsonPath = {
  /** In the unit of the case. */
  readonly value: number | null;
  /** CPU seconds of the proxies of both sides: per GB where bytes are moved, else per 10,000 requests or connections. */
  readonly cpu: number | null;
  /** The highest resident size of the larger side during the load, bytes. */
  readonly rss: number | null;
  /** Microseconds. */
  readonly p99: number | null;
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
      paths: Object.fromEntries(measured.map((path) => [path.path, jsonPath(path)])),
      figures: Object.fromEntries(measured.map(({ path, figures }) => [path, figures])),
      failures: Object.fromEntries(
        paths.filter(({ failures }) => failures.length > 0).map(({ path, failures }) => [path, failures]),
      ),
    };
  });
}

function jsonPath(path: PathSummary): JsonPath {
  return {
    value: medianOf(path, 'value'),
    cpu: medianOf(path, 'cpuSecondsPerGb') ?? medianOf(path, 'cpuSecondsPer10k'),
    rss: medianOf(path, 'largestRssBytes'),
    p99: medianOf(path, 'p99Us'),
  };
}

/** Figures to six significant digits: more is noise. */
export function shortJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    typeof item === 'number' && !Number.isInteger(item) ? Number(item.toPrecision(6)) : item,
  );
}
