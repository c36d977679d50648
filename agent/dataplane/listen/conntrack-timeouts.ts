import { readProcFile } from '../../native/addon.js';
import type { Probing } from '../../native/tcp-life.js';

/**
 * How long the kernel keeps the entry of a silent connection, in each state that may last as long as an application
 * likes, and what it does so by default, in seconds (kernel: Documentation/networking/nf_conntrack-sysctl.rst). The last
 * two replace a longer one while the receiver takes nothing, and while bytes are not acknowledged.
 */
const defaultSeconds = {
  established: 432_000,
  fin_wait: 120,
  close_wait: 60,
  max_retrans: 300,
  unacknowledged: 300,
} as const;

/** Probes of this number may be lost or late before an entry goes. */
const probesWithinTimeout = 3;
/** The application behind a connection that it left is noticed within this time, however long entries last. */
const longestSeconds = 60;
const shortestSeconds = 1;
/** The most that the kernel allows. The connection lives until the other side says that it has gone. */
const neverGiveUp = 127;

/**
 * How to probe connections that live on an entry of the namespace's connection tracking, so that the entry outlives every
 * silence. An entry that lasts less than about 3 s cannot be kept.
 */
export function entryProbing(netnsFd: number): Probing {
  const timeouts = Object.entries(defaultSeconds).map(([state, seconds]) => timeoutOf(netnsFd, state) ?? seconds);
  return probingWithin(Math.min(...timeouts));
}

/** `timeoutSeconds`: the shortest life of an entry. */
export function probingWithin(timeoutSeconds: number): Probing {
  const seconds = Math.floor(timeoutSeconds / probesWithinTimeout);
  const everySeconds = Math.max(shortestSeconds, Math.min(longestSeconds, seconds));
  return {
    idleSeconds: everySeconds,
    intervalSeconds: everySeconds,
    count: neverGiveUp,
    // While bytes wait for a receiver that takes none, window probes replace these, and double their distance to 120 s.
    longestRetransmitMs: everySeconds * 1000,
  };
}

/**
 * For a client on another host: the kernel's own pauses between retransmissions. It counts retransmissions before it gives a
 * connection up, and with shorter pauses it would do so after minutes in place of a quarter of an hour.
 */
export function acrossHosts(probing: Probing): Probing {
  return { ...probing, longestRetransmitMs: null };
}

/** Null where the kernel does not say, because connection tracking is not loaded yet or belongs to another user. */
function timeoutOf(netnsFd: number, state: string): number | null {
  try {
    const path = `/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_${state}`;
    const seconds = Number.parseInt(readProcFile({ netnsFd, path }), 10);
    return seconds > 0 ? seconds : null;
  } catch {
    return null;
  }
}
