import type { ServiceName } from './bench-ports.js';

/** Process ids of the proxies between client and server; their descendants count too. */
export type PathProcesses = {
  /** On the client's side. */
  readonly source: readonly number[];
  /** On the server's side. */
  readonly destination: readonly number[];
};

/** A path from the client's workload to the applications in the server's: the mesh, no proxy, or a pair of proxies. */
export interface BenchPath {
  /** Its key in the JSON: `culvert`, `direct` or the name of an adapter. */
  readonly name: string;
  readonly title: string;
  readonly kind: 'culvert' | 'direct' | 'mutual' | 'none';
  /** Starts what the path needs for an application and returns the address that the client dials. */
  open(service: ServiceName): Promise<{ readonly ip: string; readonly port: number }>;
  /** Process ids of what {@link open} started for this application. */
  processes(service: ServiceName): PathProcesses;
  /** Sets how many threads or processes of each side may move bytes, from the next start on. */
  setWorkers(workers: number): void;
  /** Stops every process; the next {@link open} starts new ones. */
  stop(): Promise<void>;
}
