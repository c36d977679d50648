import type { BenchLab } from './bench-lab.js';
import type { BenchPath } from './bench-path.js';
import type { ServiceName } from './bench-ports.js';
import type { CaseId } from './case-ids.js';

/** One measurement of one path: figures by name, in base units (bytes, seconds, `…Us` microseconds); `value` leads. */
export type Figures = { readonly value: number } & Readonly<Record<string, number>>;

export type CaseContext = {
  readonly lab: BenchLab;
  /** How long a load lasts, where a case has a length. */
  readonly seconds: number;
  /** The short run: some cases use fewer connections with the comparators and say so. */
  readonly isQuick: boolean;
};

/** What is measured, the same way for every path. */
export type BenchCase = {
  readonly id: CaseId;
  readonly title: string;
  /** Of `value`. */
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly services: readonly ServiceName[];
  /** `one`: with one worker and freshly started processes, for figures of memory. `all`: with as many as were asked for. */
  readonly workers: 'one' | 'all';
  /** It looks at proxies only, so the direct path has no part in it. */
  readonly isOfProxies?: boolean;
  /** It makes no load, so all paths are measured at the same time. */
  readonly isPassive?: boolean;
  /** The path is open for the services. Throws when a request failed: such a figure means nothing. */
  measure(path: BenchPath, context: CaseContext): Promise<Figures>;
};
