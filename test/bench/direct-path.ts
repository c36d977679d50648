import type { BenchLab } from './bench-lab.js';
import type { BenchPath } from './bench-path.js';
import { type ServiceName, servicePorts } from './bench-ports.js';

/** No proxy: the same two workloads, on a port that the agents do not capture. */
export function directPath({ server }: BenchLab): BenchPath {
  return {
    name: 'direct',
    title: 'direct',
    kind: 'direct',
    open: (service: ServiceName) => Promise.resolve({ ip: server.ipv4, port: servicePorts[service].plain }),
    processes: () => ({ source: [], destination: [] }),
    setWorkers: () => {},
    stop: () => Promise.resolve(),
  };
}
