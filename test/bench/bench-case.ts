import type { BenchLab } from './bench-lab.js';
import type { BenchPath } from './bench-path.js';
import type { ServiceName } from './bench-ports.js';
import type { CaseId } from './case-ids.js';

/** One measurement of one path: figures by name, in base units (bytes, seconds, `…Us` microseconds); `value` leads. */
export type Figures = { readonly value: number } & Readonly<Record<string, number>>;

export type CaseContext = {
  readonly lab: BenchLab;
  /** Duration of a load, for cases that have one. */
  readonly seconds: number;
  /** The short run: some cases use fewer connections with the comparators and say so. */
  readonly isQuick: boolean;
};

/** A measurement, which is the same for every path. */
export type BenchCase = {
  readonly id: CaseId;
  readonly title: string;
  /** Of `value`. */
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly services: readonly ServiceName[];
  /** `one`: one worker and freshly started processes, for memory figures. `all`: the configured number of workers. */
  readonly workers: 'one' | 'all';
  /** The case measures only proxies, so it skips the direct path. */
  readonly isOfProxies?: boolean;
  /** The case creates no load, so all paths are measured at once. */
  readonly isPassive?: boolean;
  /** Runs while the path is open for the services. Throws when a request failed, because such a figure is meaningless. */
  measure(path: BenchPath, context: CaseContext): Promise<Figures>;
};
