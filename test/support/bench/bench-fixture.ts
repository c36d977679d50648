import type { BenchCase, Figures } from '../../bench/bench-case.js';
import type { Outcome } from '../../bench/summary.js';

/** A case whose value is better when it is higher. */
export const requestsCase: Pick<BenchCase, 'id' | 'title' | 'unit' | 'better'> = {
  id: 'keepalive-32',
  title: 'keep-alive, 32 connections',
  unit: 'requests/s',
  better: 'higher',
};

export function outcome(path: string, kind: Outcome['kind'], rounds: readonly Figures[]): Outcome {
  return { path, title: path, kind, rounds, failures: [], leftOut: null };
}
