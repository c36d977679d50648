import type { ServiceName } from './bench-ports.js';

/** Process ids of what stands between client and server; the descendants of these count too. */
export type PathProcesses = {
  /** On the client's side. */
  readonly source: readonly number[];
  /** On the server's side. */
  readonly destination: readonly number[];
};

/** A way from the client's workload to the applications of the server's: the mesh, nothing, or a pair of proxies. */
export interface BenchPath {
  /** Its key in the JSON: `culvert`, `direct` or the name of an adapter. */
  readonly name: string;
  readonly title: string;
  readonly kind: 'culvert' | 'direct' | 'mutual' | 'none';
  /** What the client dials for an application, after starting what is needed for it. */
  open(service: ServiceName): Promise<{ readonly ip: string; readonly port: number }>;
  /** Of what {@link open} started for this application. */
  processes(service: ServiceName): PathProcesses;
  /** How many threads or processes of each side may move bytes, from the next start on. */
  setWorkers(workers: number): void;
  /** Ends every process; the next {@link open} starts fresh ones. */
  stop(): Promise<void>;
}
