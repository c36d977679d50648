import { callAddon } from './addon.js';

/** A setting of each network namespace: the kernel finds the socket of a packet before netfilter has seen all of it. */
export const earlyDemuxPath = '/proc/sys/net/ipv4/tcp_early_demux';

/** Whether the agent may change it. Not in a container whose /proc/sys is read-only. */
export function mayChangeEarlyDemux(): boolean {
  type Addon = { mayChangeEarlyDemux(): boolean };
  return callAddon(`asking for access to ${earlyDemuxPath}`, (addon: Addon) => addon.mayChangeEarlyDemux());
}
