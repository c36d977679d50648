import type net from 'node:net';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** A connection to a tunnel port of which the peer is not proved yet. */
export type Unproved = {
  readonly socket: net.Socket;
  /** The workload whose listener accepted it. */
  readonly listener: WorkloadName;
  /** Who it counts for, see `sourceOf`. */
  readonly source: string;
  /** Whether its first byte has come, or it has gone. */
  readonly look: () => 'bytes' | 'nothing' | 'gone';
  /** Starts the handshake. */
  readonly begin: () => void;
  /**
   * Ends the connection, which has left already: it has to go, or has gone before its first byte. `stuck` has to go too, and its
   * handshake had begun.
   */
  readonly cut: (why: 'overload' | 'stuck' | 'gone') => void;
};

/** `silent` until its first byte, `due` until its turn, then `running`, which costs an SSL object. */
type Standing = 'silent' | 'due' | 'running';
type Place = Unproved & { standing: Standing; runningSinceMs: number; lookAtMs: number; lookEveryMs: number };

/** The limits of one thread. Those of a source are for each listener. */
export type HandshakeLimits = {
  readonly perSource: number;
  readonly perListener: number;
  readonly total: number;
  readonly runningPerSource: number;
  /** What all of them can do in one turn of the event loop is what others then wait for. */
  readonly runningTotal: number;
  /** Between the begins of two handshakes. */
  readonly betweenMs: number;
  /** Handshakes of one source that may begin in a second, after `atOnce`. Each takes the time of a private key from others. */
  readonly perSecond: number;
  readonly atOnce: number;
  /** The same for those that do not prove their peer. */
  readonly unprovedPerSecond: number;
  readonly unprovedAtOnce: number;
};

export const defaultHandshakeLimits: HandshakeLimits = {
  perSource: 256,
  perListener: 1024,
  total: 2048,
  runningPerSource: 16,
  runningTotal: 64,
  betweenMs: 3,
  // Workloads behind one translated address are one source, and their first tunnels may come all at once.
  perSecond: 25,
  atOnce: 256,
  unprovedPerSecond: 4,
  // As many as may run: an honest source never waits for a token, because it gets each one back.
  unprovedAtOnce: 16,
};

/** Between two looks for the first byte: an honest one is there at once, and the pause doubles from the first to the last. */
const lookPauseMs = { first: 1, last: 64 } as const;
/** After this time a running handshake goes when others wait and no place is free. An honest one takes some milliseconds. */
const stuckAfterMs = 1000;

/**
 * The handshakes with peers that proved nothing yet, so that they neither keep out others nor hold up what else the thread
 * does. Each begins when its first byte has come, one after the other at a pace, listener by listener, and of a listener source
 * by source. So a peer waits behind its own handshakes and not behind those of a flood. A source whose handshakes prove nothing
 * gets few of them.
 *
 * A new connection is never refused. When a source, a listener or all together have more than they may, one goes of the source
 * that has the most of them there: the one that has been silent for the longest, or else the oldest that waits for its turn, or
 * else the oldest.
 */
export class HandshakeTurns {
  readonly #limits: HandshakeLimits;
  /** By socket, in the order of arrival. */
  readonly #places = new Map<net.Socket, Place>();
  readonly #listeners = new Map<WorkloadName, BySource>();
  readonly #running = new Set<Place>();
  /** Those that are due: by listener, and by source. What was served goes to the end of each map. */
  readonly #due = new Map<WorkloadName, BySource>();
  readonly #rate: RateOfKeys;
  readonly #unprovedRate: RateOfKeys;
  readonly #silent = new Set<Place>();
  #timer: NodeJS.Timeout | null = null;
  #lookTimer: NodeJS.Timeout | null = null;
  #lookDueAtMs = Number.POSITIVE_INFINITY;
  #begunAtMs = Number.NEGATIVE_INFINITY;

  constructor(limits: HandshakeLimits = defaultHandshakeLimits) {
    this.#limits = limits;
    const { total, perSecond, atOnce, unprovedPerSecond, unprovedAtOnce } = limits;
    this.#rate = new RateOfKeys({ perSecond, atOnce, keys: total });
    this.#unprovedRate = new RateOfKeys({ perSecond: unprovedPerSecond, atOnce: unprovedAtOnce, keys: total });
  }

  get size(): number {
    return this.#places.size;
  }

  /** Connections of one workload's listener, or of all (null). */
  of(listener: WorkloadName | null): readonly Unproved[] {
    return [...this.#places.values()].filter((place) => listener === null || place.listener === listener);
  }

  enter(unproved: Unproved): void {
    const pause = { lookAtMs: performance.now(), lookEveryMs: lookPauseMs.first };
    const place: Place = { ...unproved, standing: 'silent', runningSinceMs: 0, ...pause };
    this.#silent.add(place);
    this.#places.set(place.socket, place);
    const { sources, own } = add(this.#listeners, place);
    const { perSource, perListener, total } = this.#limits;
    if (own.size > perSource) this.#cut(own, place);
    else if (sizeOf(sources) > perListener) this.#cut(largestOf(sources.values()), place);
    else if (this.#places.size > total) {
      const all = [...this.#listeners.values()].toSorted((a, b) => sizeOf(b) - sizeOf(a));
      this.#cut(largestOf(all[0]?.values() ?? []), place);
    }
    this.#look(place, place.lookAtMs);
    this.#lookSoon();
  }

  /** The peer is proved. Returns whether it was here. */
  leaveProved(socket: net.Socket): boolean {
    const place = this.#places.get(socket);
    if (place?.standing === 'running') this.#unprovedRate.giveBack(keyOf(place), performance.now());
    return this.leave(socket);
  }

  /**
   * A peer of this source broke the protocol or its limits after it was proved, and lost its tunnel: another one costs as much
   * as many handshakes that prove nothing.
   */
  punish(who: Pick<Unproved, 'listener' | 'source'>): void {
    this.charge(who, this.#limits.unprovedAtOnce);
  }

  /** What a proved peer of this source did costs it as much as this many handshakes that prove nothing; also a part of one. */
  charge(who: Pick<Unproved, 'listener' | 'source'>, handshakes: number): void {
    this.#unprovedRate.owe(keyOf(who), handshakes, performance.now());
  }

  /** The peer has gone, or proved nothing. Returns whether it was here. */
  leave(socket: net.Socket): boolean {
    const place = this.#places.get(socket);
    if (place === undefined) return false;
    this.#places.delete(socket);
    remove(this.#listeners, place);
    remove(this.#due, place);
    this.#silent.delete(place);
    if (this.#running.delete(place)) this.#goOn();
    return true;
  }

  #cut(among: ReadonlySet<Place>, newest: Place): void {
    const victim = this.#victimOf(among, newest);
    if (victim === null || !this.leave(victim.socket)) return;
    victim.cut(victim.standing === 'running' ? 'stuck' : 'overload');
  }

  #victimOf(among: ReadonlySet<Place>, newest: Place): Place | null {
    let oldest: Place | null = null;
    for (const place of among) {
      if (place === newest) continue;
      // Its first byte can have come since it was looked at: no honest one is taken for silent.
      if (place.standing === 'silent') this.#look(place, performance.now());
      if (place.standing === 'silent') return place;
      // It had gone, so there is room.
      if (!this.#places.has(place.socket)) return null;
      if (oldest === null || (oldest.standing === 'running' && place.standing === 'due')) oldest = place;
    }
    return oldest;
  }

  /**
   * Looks again and again, ever more rarely. An event in place of that would take a read, and a socket that was read cannot
   * be handed to TLS as a new one is.
   */
  #lookSoon(): void {
    let dueAtMs = Number.POSITIVE_INFINITY;
    for (const { lookAtMs } of this.#silent) dueAtMs = Math.min(dueAtMs, lookAtMs);
    if (dueAtMs >= this.#lookDueAtMs) return;
    if (this.#lookTimer !== null) clearTimeout(this.#lookTimer);
    this.#lookDueAtMs = dueAtMs;
    this.#lookTimer = setTimeout(() => this.#lookAtAll(), Math.max(1, dueAtMs - performance.now()));
  }

  #lookAtAll(): void {
    this.#lookDueAtMs = Number.POSITIVE_INFINITY;
    const nowMs = performance.now();
    for (const place of this.#silent) if (place.lookAtMs <= nowMs) this.#look(place, nowMs);
    this.#lookSoon();
  }

  #look(place: Place, nowMs: number): void {
    const seen = place.look();
    if (seen === 'nothing') {
      place.lookAtMs = nowMs + place.lookEveryMs;
      place.lookEveryMs = Math.min(2 * place.lookEveryMs, lookPauseMs.last);
      return;
    }
    if (seen === 'gone') {
      this.leave(place.socket);
      place.cut('gone');
      return;
    }
    this.#silent.delete(place);
    place.standing = 'due';
    add(this.#due, place);
    this.#goOn();
  }

  #goOn(): void {
    if (this.#timer !== null || this.#due.size === 0) return;
    const inMs = this.#begunAtMs + this.#limits.betweenMs - performance.now();
    this.#timer = setTimeout(() => this.#onTurn(), Math.max(0, inMs));
  }

  #onTurn(): void {
    this.#timer = null;
    const next = this.#takeNext();
    if (next === null) {
      // What waits has no place or no right yet. A place that becomes free is noticed at once.
      if (this.#due.size > 0) this.#timer = setTimeout(() => this.#onTurn(), 10 * this.#limits.betweenMs);
      return;
    }
    next.standing = 'running';
    next.runningSinceMs = performance.now();
    this.#begunAtMs = next.runningSinceMs;
    this.#running.add(next);
    next.begin();
    this.#goOn();
  }

  #takeNext(): Place | null {
    for (const [listener, sources] of this.#due) {
      for (const [source, waiting] of sources) {
        const [place] = waiting;
        if (place === undefined || !this.#mayRun(place)) continue;
        waiting.delete(place);
        sources.delete(source);
        if (waiting.size > 0) sources.set(source, waiting);
        this.#due.delete(listener);
        if (sources.size > 0) this.#due.set(listener, sources);
        return place;
      }
    }
    return null;
  }

  #mayRun(place: Place): boolean {
    const { runningPerSource, runningTotal } = this.#limits;
    const ofSource = [...this.#running].filter((each) => isSameSource(each, place)).length;
    if (ofSource >= runningPerSource) return false;
    const [oldest] = this.#running;
    const isFull = this.#running.size >= runningTotal && oldest !== undefined;
    if (isFull && performance.now() - oldest.runningSinceMs < stuckAfterMs) return false;
    if (!this.#isWithinRate(place)) return false;
    if (isFull) {
      this.leave(oldest.socket);
      oldest.cut('stuck');
    }
    return true;
  }

  #isWithinRate(place: Place): boolean {
    const [key, nowMs] = [keyOf(place), performance.now()];
    const rates = [this.#rate, this.#unprovedRate];
    if (!rates.every((rate) => rate.has(key, nowMs))) return false;
    for (const rate of rates) rate.take(key, nowMs);
    return true;
  }
}

/** For each key a bucket of tokens, kept as the time at which it will be full again. */
class RateOfKeys {
  readonly #fullAtMs = new Map<string, number>();
  readonly #tokenMs: number;
  readonly #atOnce: number;
  readonly #keys: number;

  /** `keys`: when there are more, those are forgotten that are full. */
  constructor(init: { readonly perSecond: number; readonly atOnce: number; readonly keys: number }) {
    this.#tokenMs = 1000 / init.perSecond;
    this.#atOnce = init.atOnce;
    this.#keys = init.keys;
  }

  has(key: string, nowMs: number): boolean {
    return this.#missingMs(key, nowMs) <= this.#tokenMs * (this.#atOnce - 1);
  }

  take(key: string, nowMs: number): void {
    this.#set(key, nowMs, this.#missingMs(key, nowMs) + this.#tokenMs);
  }

  /** Takes this many, also where there are fewer. A key owes no more than there can be. */
  owe(key: string, tokens: number, nowMs: number): void {
    const mostMs = 2 * this.#tokenMs * this.#atOnce;
    this.#set(key, nowMs, Math.min(this.#missingMs(key, nowMs) + tokens * this.#tokenMs, mostMs));
  }

  giveBack(key: string, nowMs: number): void {
    const missingMs = this.#missingMs(key, nowMs) - this.#tokenMs;
    if (missingMs > 0) this.#fullAtMs.set(key, nowMs + missingMs);
    else this.#fullAtMs.delete(key);
  }

  #set(key: string, nowMs: number, missingMs: number): void {
    this.#fullAtMs.set(key, nowMs + missingMs);
    if (this.#fullAtMs.size <= this.#keys) return;
    for (const [each, fullAtMs] of this.#fullAtMs) if (fullAtMs <= nowMs) this.#fullAtMs.delete(each);
  }

  /** How long until the bucket is full. */
  #missingMs(key: string, nowMs: number): number {
    return Math.max(0, (this.#fullAtMs.get(key) ?? 0) - nowMs);
  }
}

function keyOf({ listener, source }: Pick<Unproved, 'listener' | 'source'>): string {
  return `${listener} ${source}`;
}

type BySource = Map<string, Set<Place>>;

function add(
  listeners: Map<WorkloadName, BySource>,
  place: Place,
): { readonly sources: BySource; readonly own: ReadonlySet<Place> } {
  const sources: BySource = listeners.get(place.listener) ?? new Map();
  listeners.set(place.listener, sources);
  const own = sources.get(place.source) ?? new Set();
  sources.set(place.source, own);
  own.add(place);
  return { sources, own };
}

function remove(listeners: Map<WorkloadName, BySource>, place: Place): void {
  const sources = listeners.get(place.listener);
  const own = sources?.get(place.source);
  own?.delete(place);
  if (own?.size === 0) sources?.delete(place.source);
  if (sources?.size === 0) listeners.delete(place.listener);
}

function isSameSource(a: Place, b: Place): boolean {
  return a.source === b.source && a.listener === b.listener;
}

function sizeOf(sources: ReadonlyMap<string, ReadonlySet<Place>>): number {
  let size = 0;
  for (const places of sources.values()) size += places.size;
  return size;
}

function largestOf(all: Iterable<ReadonlySet<Place>>): ReadonlySet<Place> {
  let largest: ReadonlySet<Place> = new Set();
  for (const places of all) if (places.size > largest.size) largest = places;
  return largest;
}
