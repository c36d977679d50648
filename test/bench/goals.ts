import type { CaseId } from './case-ids.js';

/** Goals that `npm run bench -- rules`, `scale` and `cluster` measure. */
export type ScaleGoalId =
  | 'decision'
  | 'workload-memory'
  | 'start-50k'
  | 'apply-500'
  | 'endpoint-500'
  | 'churn-50k'
  | 'pods-controller'
  | 'pods-in-force';

/**
 * One limit for a figure of Culvert. `of` is the reference: a comparator's figure of the same name (`best`: the best one with
 * mutual TLS in this case), or `itself`, when `limit` is an absolute value.
 */
export type Condition = {
  readonly figure: string;
  readonly is: 'at least' | 'at most' | 'below';
  readonly limit: number;
  readonly of: 'best' | 'haproxy-plain' | 'itself';
};

const mebibyte = 1024 ** 2;

/** Ratios within one run on two cores, and limits. Other cases have no goal. */
export const caseGoals: Readonly<Partial<Record<CaseId, readonly Condition[]>>> = {
  'bulk-1': [{ figure: 'value', is: 'at least', limit: 0.95, of: 'best' }],
  'bulk-4': [{ figure: 'value', is: 'at least', limit: 1, of: 'best' }],
  'keepalive-1': [{ figure: 'value', is: 'at most', limit: 1.3, of: 'best' }],
  'keepalive-32': [
    { figure: 'value', is: 'at least', limit: 1.3, of: 'best' },
    { figure: 'p99Us', is: 'at most', limit: 1, of: 'best' },
  ],
  'keepalive-256': [
    { figure: 'value', is: 'at least', limit: 1.3, of: 'best' },
    { figure: 'p99Us', is: 'at most', limit: 1, of: 'best' },
  ],
  newconn: [
    { figure: 'value', is: 'at least', limit: 8, of: 'best' },
    { figure: 'value', is: 'at least', limit: 0.4, of: 'haproxy-plain' },
  ],
  'slow-readers': [
    { figure: 'value', is: 'at least', limit: 0.9, of: 'itself' },
    { figure: 'growthOfWindows', is: 'at most', limit: 1, of: 'itself' },
  ],
  'idle-10k': [
    { figure: 'value', is: 'at most', limit: 12 * 1024, of: 'itself' },
    { figure: 'largestRssBytes', is: 'below', limit: 250 * mebibyte, of: 'itself' },
  ],
  'at-rest': [
    { figure: 'value', is: 'below', limit: 0.5, of: 'itself' },
    { figure: 'largestRssBytes', is: 'below', limit: 90 * mebibyte, of: 'itself' },
  ],
};

/** Figures in microseconds, bytes and milliseconds, and percent of a core. */
export const scaleGoals: Readonly<Record<ScaleGoalId, Condition>> = {
  decision: { figure: 'p99Us', is: 'below', limit: 10, of: 'itself' },
  'workload-memory': { figure: 'bytesPerWorkload', is: 'at most', limit: 1536, of: 'itself' },
  'start-50k': { figure: 'startMs', is: 'below', limit: 5000, of: 'itself' },
  'apply-500': { figure: 'inForceMs', is: 'below', limit: 2000, of: 'itself' },
  'endpoint-500': { figure: 'endpointInForceMs', is: 'below', limit: 1000, of: 'itself' },
  'churn-50k': { figure: 'controllerPercent', is: 'below', limit: 50, of: 'itself' },
  'pods-controller': { figure: 'controllerPercent', is: 'below', limit: 50, of: 'itself' },
  'pods-in-force': { figure: 'p99Ms', is: 'below', limit: 1000, of: 'itself' },
};

/** Whether a figure meets a condition. `reference` is the figure to compare with, 1 for `itself`. */
export function isMet({ is, limit }: Condition, figure: number, reference: number): boolean {
  const bound = limit * reference;
  if (is === 'at least') return figure >= bound;
  return is === 'at most' ? figure <= bound : figure < bound;
}
