import { listenTcp } from '../../../native/addon.js';
import { lateAcceptPorts } from '../../../ports.js';
import type { Accepted } from '../../io/io-listener.js';
import { ApplicationListener } from '../application-listener.js';
import type { HostedWorkload } from '../hosted-workload.js';

/** Listens on one loopback address of a workload for connections of its applications. Throws, for example, `EADDRINUSE`. */
export function openLoopbackListener(init: {
  readonly workload: HostedWorkload;
  readonly host: string;
  readonly backlog: number;
  readonly onAccept: (accepted: Accepted) => void;
  readonly onError: (error: Error) => void;
}): ApplicationListener {
  const { workload, host, backlog, onAccept, onError } = init;
  const port = lateAcceptPorts.accepted;
  const fd = listenTcp({ netnsFd: workload.netnsFd, host, port, backlog, reusePort: false, transparent: true });
  return ApplicationListener.open({ fd, backlog, probing: workload.probing.open, onAccept, onError });
}
