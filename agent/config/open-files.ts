import { openFilesLimit } from '../../shared/open-files.js';
import type { DataplaneSettings } from '../dataplane/settings.js';

/** A connection has a socket to its client and one to its server; in a tunnel it has one of these. */
const filesPerConnection = 2;
/** Tunnels, listeners, files of the state, NATS, endpoints, and what a process has in any case. */
const otherFiles = 512;
/** Of all workloads together. A host that cannot hold as many meets its limit in ordinary use. */
const fewConnections = 4096;

type Limits = Pick<DataplaneSettings, 'maxConnectionsPerWorkload'>;

/** How many connections this process can hold, of all workloads together; infinite: it has no limit. */
export function connectionsThatFit(openFiles = openFilesLimit()): number {
  return Math.max(0, Math.floor((openFiles - otherFiles) / filesPerConnection));
}

/**
 * Why the agent runs out of descriptors before a workload meets its limit, and in ordinary use; null: it does not. `openFiles`:
 * RLIMIT_NOFILE, soft. Node has raised it to the hard one.
 */
export function filesProblem({ maxConnectionsPerWorkload }: Limits, openFiles = openFilesLimit()): string | null {
  const fit = connectionsThatFit(openFiles);
  const wanted = Math.min(maxConnectionsPerWorkload, fewConnections);
  if (fit >= wanted) return null;
  return (
    `it may open ${openFiles} files, which is enough for ${fit} connections of all workloads together ` +
    `(${filesPerConnection} for each, ${otherFiles} for itself), and refuses what is more; one workload alone may have ` +
    `${maxConnectionsPerWorkload} (--max-connections-per-workload)`
  );
}

/** What to do about {@link filesProblem}. */
export function filesHint({ maxConnectionsPerWorkload }: Limits): string {
  const wanted = filesPerConnection * maxConnectionsPerWorkload + otherFiles;
  return `raise the limit of open files to ${wanted} or more: LimitNOFILE= of the unit, ulimit -Hn, or that of the container runtime`;
}
