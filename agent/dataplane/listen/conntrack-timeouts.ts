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

type EntrySeconds = Readonly<Record<keyof typeof defaultSeconds, number>>;

/** How to probe a connection that lives on an entry, so that the entry outlives every silence. */
export type EntryProbing = {
  readonly open: Probing;
  /** Once one direction is closed; at the latest when a connection watch has noticed. */
  readonly halfClosed: Probing;
};

/** Probes of this number may be lost or late before an entry goes. */
const probesWithinTimeout = 3;
/** While a direction is closed, the other application may have left, and is noticed within this time. */
const longestHalfClosedSeconds = 60;
/** TCP_KEEPIDLE takes no more. */
const longestSeconds = 32_767;
const shortestSeconds = 1;
/** Within this time the watch has noticed that a direction is closed. Entries that last less are always probed for it. */
const noticedSeconds = 60;

/** As the namespace's connection tracking is set now. An entry that lasts less than about 3 s cannot be kept. */
export function entryProbing(netnsFd: number): EntryProbing {
  const seconds = Object.entries(defaultSeconds).map(([state, usual]) => [state, timeoutOf(netnsFd, state) ?? usual]);
  return probingWithin(Object.fromEntries(seconds) as EntrySeconds);
}

/** `lifetimes`: how long an entry lasts in each state. */
export function probingWithin({ established, ...others }: EntrySeconds): EntryProbing {
  const shortest = Math.min(...Object.values(others));
  const halfClosedSeconds = pauseWithin(Math.min(shortest, established), longestHalfClosedSeconds);
  const openSeconds = shortest < noticedSeconds ? halfClosedSeconds : pauseWithin(established, longestSeconds);
  // While bytes wait for a receiver that takes none, window probes replace these, and double their distance to 120 s.
  const longestRetransmitMs = halfClosedSeconds * 1000;
  return {
    open: { everySeconds: openSeconds, longestRetransmitMs },
    halfClosed: { everySeconds: halfClosedSeconds, longestRetransmitMs },
  };
}

function pauseWithin(timeoutSeconds: number, mostSeconds: number): number {
  return Math.max(shortestSeconds, Math.min(mostSeconds, Math.floor(timeoutSeconds / probesWithinTimeout)));
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
