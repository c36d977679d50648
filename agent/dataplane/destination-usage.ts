import { createHash } from 'node:crypto';
import { dueAfter, takeOne, type Bucket, type ByteBucket } from './limit/token-bucket.js';
import { destinationArea, maxDestinations } from './workload-usage.js';

/** What is counted of a destination, as a cell of its slot. */
const cell = { pending: 0, open: 1 } as const;
export type DestinationCount = keyof typeof cell;

/** In place of the totals of a slot that gets another name: nothing is counted there meanwhile. */
const closed = -1;
/** A client may use another slot while it uses fewer than this part of those that are left. */
const shareOfLeft = 1 / 4;
/** Slots that a worker remembers by name; they are looked up again when there are more. */
const maxRemembered = 2 * maxDestinations;
/** To give a slot another name takes microseconds, unless the thread that does it has died or gets no time of a processor. */
const longestWaitMs = 100;

type Slot = { readonly at: number; readonly name: bigint };

/** One that is counted. Its owner leaves it once. */
export interface CountedConnection {
  leave(): void;
}

/** One that also took from a budget of new connections. Its owner calls one of the two, once. */
export interface LimitedConnection extends CountedConnection {
  /** Leaves, and gives back what it took: it was never opened. */
  giveBack(): void;
}

/** A place in a budget of bytes. */
export interface ByteMeter extends LimitedConnection {
  /**
   * Takes bytes; returns how long they have to wait, in milliseconds. `isTrial`: takes nothing where they would have to. A
   * negative number gives bytes back.
   */
  spend(bytes: number, isTrial: boolean): number;
}

/** Why there is no slot. `slots`: as many limits are in use as can be counted. `share`: the client uses its share of them. */
type Unslotted = 'slots' | 'share';
/** Why a limit has no place. */
export type LimitReached = 'connections' | 'rate' | Unslotted;

/** What is counted, and for whom. */
export type Counted = {
  /** Names it, and nothing else has the same. */
  readonly key: string;
  /** The service account of the client, `shop/api`: its workloads have one share of the slots. */
  readonly client: string;
};

/**
 * Connections to each destination that has a limit, over all workers, so that the limit is the agent's and not one of each
 * thread. Lives in the shared memory of `WorkloadUsage`: a total for each slot, and what each worker has of it in the row of
 * the worker, so those of a dead worker are taken back with it. A destination gets a slot, by the hash of its name, when the
 * first worker needs one. When all slots have names, one in which nothing is counted gets another name: that of a document or a
 * service that is gone, in the end; one worker at a time does so, and others wait for it. Where a client gets no slot,
 * each worker counts its own.
 *
 * A slot is used while something is counted in it or its budget is not whole, and the client that gave it its name is the one
 * that uses it. A client may use another one only while it uses fewer than a quarter of those that are left: alone a fifth of
 * all, and however many others use what they may, a fifth of what these have left. What clients ask for at the same instant on
 * several workers may be one more for each of these.
 *
 * A slot also has the budget of new connections of a limit. It gets no other name before that is whole again, when to forget it
 * changes nothing. Where a client gets no slot such a limit has no place: it must not be escaped by using up the slots.
 */
export class DestinationUsage {
  readonly #cells: Int32Array;
  readonly #totals: Int32Array;
  readonly #names: BigInt64Array;
  readonly #dues: BigInt64Array;
  /** The same memory in halves, the lower one first: a look at all slots must not make a bigint of each. */
  readonly #nameHalves: Int32Array;
  readonly #dueHalves: Int32Array;
  readonly #owners: BigInt64Array;
  readonly #ownerHalves: Int32Array;
  readonly #workerIndex: number;
  readonly #nowNs: () => bigint;
  readonly #longestWaitMs: number;
  readonly #slots = new Map<string, Slot>();
  readonly #own = new Map<string, [number, number]>();

  /**
   * `nowNs`: of a clock that never goes back and that all workers share; absent: that of the kernel. `longestWaitMs`: for a
   * worker that gives a slot another name.
   */
  constructor(init: {
    readonly buffer: SharedArrayBuffer;
    readonly workers: number;
    readonly workerIndex: number;
    readonly nowNs?: () => bigint;
    readonly longestWaitMs?: number;
  }) {
    this.#cells = new Int32Array(init.buffer);
    this.#totals = destinationArea.totals(init.buffer, init.workers);
    this.#names = new BigInt64Array(init.buffer, destinationArea.namesAt(init.workers), maxDestinations);
    this.#dues = new BigInt64Array(init.buffer, destinationArea.dueAt(init.workers), maxDestinations);
    this.#nameHalves = new Int32Array(init.buffer, this.#names.byteOffset, 2 * maxDestinations);
    this.#dueHalves = new Int32Array(init.buffer, this.#dues.byteOffset, 2 * maxDestinations);
    this.#owners = new BigInt64Array(init.buffer, destinationArea.ownersAt(init.workers), maxDestinations);
    this.#ownerHalves = new Int32Array(init.buffer, this.#owners.byteOffset, 2 * maxDestinations);
    this.#workerIndex = init.workerIndex;
    this.#nowNs = init.nowNs ?? (() => process.hrtime.bigint());
    this.#longestWaitMs = init.longestWaitMs ?? longestWaitMs;
  }

  /**
   * Counts one more unless there are `most` already; null: there are. Of several workers that ask for the last one at the same
   * instant one gets it. The caller owns what is returned.
   */
  take(destination: Counted, what: DestinationCount, most = Number.POSITIVE_INFINITY): CountedConnection | null {
    for (;;) {
      const slot = this.#slotOf(destination);
      if (typeof slot === 'string') return this.#takeOwn(destination.key, what, most);
      const taken = this.#takeOf(slot, what, most);
      if (taken !== 'moved') return taken;
    }
  }

  /**
   * Counts one more open connection of a limit and takes it from its budget, unless one of the two is used up. What is
   * refused takes nothing. The caller owns what is returned.
   */
  takeLimited(
    limit: Counted,
    { max, bucket }: { readonly max: number | undefined; readonly bucket: Bucket | null },
  ): LimitedConnection | LimitReached {
    for (;;) {
      const slot = this.#slotOf(limit);
      if (typeof slot === 'string') return slot;
      const taken = this.#takeOf(slot, 'open', max ?? Number.POSITIVE_INFINITY);
      if (taken === 'moved') continue;
      if (taken === null) return 'connections';
      // Its place keeps the slot its name.
      const leave = (): void => taken.leave();
      if (bucket === null) return { leave, giveBack: leave };
      if (!this.#charge(slot.at, bucket)) {
        leave();
        return 'rate';
      }
      const giveBack = (): void => {
        Atomics.sub(this.#dues, slot.at, bucket.eachNs);
        leave();
      };
      return { leave, giveBack };
    }
  }

  /** A place in a budget of bytes, which has none of connections. The caller owns it. */
  takeMeter(budget: Counted, bucket: ByteBucket): ByteMeter | Unslotted {
    for (;;) {
      const slot = this.#slotOf(budget);
      if (typeof slot === 'string') return slot;
      const taken = this.#takeOf(slot, 'open', Number.POSITIVE_INFINITY);
      if (taken === 'moved' || taken === null) continue;
      const leave = (): void => taken.leave();
      const spend = (bytes: number, isTrial: boolean): number => this.#spend(slot.at, { bytes, bucket }, isTrial);
      return { leave, giveBack: leave, spend };
    }
  }

  #spend(at: number, spent: { readonly bytes: number; readonly bucket: ByteBucket }, isTrial: boolean): number {
    for (;;) {
      const before = Atomics.load(this.#dues, at);
      const { due, waitNs } = dueAfter(before, this.#nowNs(), spent);
      const waitMs = Number(waitNs) / 1e6;
      if (isTrial && waitNs > 0n) return waitMs;
      if (Atomics.compareExchange(this.#dues, at, before, due) === before) return waitMs;
    }
  }

  #charge(at: number, bucket: Bucket): boolean {
    for (;;) {
      const before = Atomics.load(this.#dues, at);
      const { due, isTaken } = takeOne(before, this.#nowNs(), bucket);
      if (due === before || Atomics.compareExchange(this.#dues, at, before, due) === before) return isTaken;
    }
  }

  #takeOf({ at, name }: Slot, what: DestinationCount, most: number): CountedConnection | null | 'moved' {
    const total = destinationArea.total(at, cell[what]);
    for (;;) {
      const present = Atomics.load(this.#totals, total);
      if (present === closed) return 'moved';
      if (present >= most) return Atomics.load(this.#names, at) === name ? null : 'moved';
      if (Atomics.compareExchange(this.#totals, total, present, present + 1) === present) break;
    }
    // From here on the slot keeps the name that it has.
    if (Atomics.load(this.#names, at) !== name) {
      Atomics.sub(this.#totals, total, 1);
      return 'moved';
    }
    const own = destinationArea.cell(this.#workerIndex, at, cell[what]);
    Atomics.add(this.#cells, own, 1);
    return once(() => {
      Atomics.sub(this.#cells, own, 1);
      Atomics.sub(this.#totals, total, 1);
    });
  }

  #takeOwn(destination: string, what: DestinationCount, most: number): CountedConnection | null {
    const counts = this.#own.get(destination) ?? [0, 0];
    if (counts[cell[what]] >= most) return null;
    counts[cell[what]] += 1;
    this.#own.set(destination, counts);
    return once(() => {
      counts[cell[what]] -= 1;
      if (counts[0] === 0 && counts[1] === 0) this.#own.delete(destination);
    });
  }

  #slotOf({ key, client }: Counted): Slot | Unslotted {
    // What was begun where there was no slot is counted there until it has ended.
    if (this.#own.has(key)) return 'slots';
    const known = this.#slots.get(key);
    if (known !== undefined && Atomics.load(this.#names, known.at) === known.name) return known;
    const name = hashOf(key);
    const found = this.#find(name);
    const at = typeof found === 'number' ? found : this.#newSlot(name, hashOf(client), found);
    if (typeof at === 'string') return at;
    if (this.#slots.size >= maxRemembered) this.#slots.clear();
    const slot = { at, name };
    this.#slots.set(key, slot);
    return slot;
  }

  /** The slot with this name; `empty`, `full`: there is none, and some slots have no name, or all have other ones. */
  #find(name: bigint): number | 'empty' | 'full' {
    const lower = lowerHalf(name);
    const first = firstSlot(lower);
    for (let step = 0; step < maxDestinations; step++) {
      const at = (first + step) % maxDestinations;
      // Not atomic, which takes ten times as long: what another worker does meanwhile is seen behind the gate.
      const half = this.#nameHalves[2 * at];
      if (half !== lower && half !== 0) continue;
      const present = Atomics.load(this.#names, at);
      if (present === name) return at;
      if (present === 0n) return 'empty';
    }
    return 'full';
  }

  /** A client that has its share never keeps others waiting at the gate. */
  #newSlot(name: bigint, owner: bigint, others: 'empty' | 'full'): number | Unslotted {
    if (!this.#hasRoomFor(owner)) return 'share';
    const at = others === 'empty' ? this.#nameEmpty(name, owner) : null;
    return at ?? this.#rename(name, owner) ?? 'slots';
  }

  #hasRoomFor(owner: bigint): boolean {
    const [lower, upper] = [lowerHalf(owner), lowerHalf(owner >> 32n)];
    const now = Number(this.#nowNs());
    let used = 0;
    for (let at = 0; at < maxDestinations; at++) {
      if (this.#ownerHalves[2 * at] !== lower || this.#ownerHalves[2 * at + 1] !== upper) continue;
      if (!this.#looksIdle(at, now)) used += 1;
    }
    if (used === 0) return true;
    let left = 0;
    for (let at = 0; at < maxDestinations; at++) if (this.#looksIdle(at, now)) left += 1;
    return used < left * shareOfLeft;
  }

  /** The slot with this name, or an empty one that gets it; null: all have other names. */
  #nameEmpty(name: bigint, owner: bigint): number | null {
    const first = firstSlot(lowerHalf(name));
    for (let step = 0; step < maxDestinations; step++) {
      const at = (first + step) % maxDestinations;
      if (this.#nameHalves[2 * at] !== 0 && this.#nameHalves[2 * at] !== lowerHalf(name)) continue;
      const present = Atomics.compareExchange(this.#names, at, 0n, name);
      if (present === 0n) Atomics.store(this.#owners, at, owner);
      if (present === 0n || present === name) return at;
    }
    return null;
  }

  /** Gives a slot in which nothing is counted to this name; null: there is none, or another worker is in the way for long. */
  #rename(name: bigint, owner: bigint): number | null {
    if (!this.#enterGate()) return null;
    try {
      const present = this.#find(name);
      if (typeof present === 'number') return present;
      const now = Number(this.#nowNs());
      const first = firstSlot(lowerHalf(name));
      for (let step = 0; step < maxDestinations; step++) {
        const at = (first + step) % maxDestinations;
        if (!this.#looksIdle(at, now) || !this.#close(at)) continue;
        Atomics.store(this.#owners, at, owner);
        Atomics.store(this.#names, at, name);
        for (const which of [0, 1] as const) Atomics.store(this.#totals, destinationArea.total(at, which), 0);
        return at;
      }
      return null;
    } finally {
      Atomics.store(this.#totals, destinationArea.gate, 0);
      Atomics.notify(this.#totals, destinationArea.gate);
    }
  }

  /** One worker at a time. Others wait: what they ask for may be just what it does, and they would count it by themselves. */
  #enterGate(): boolean {
    const untilMs = performance.now() + this.#longestWaitMs;
    for (;;) {
      const holder = Atomics.compareExchange(this.#totals, destinationArea.gate, 0, this.#workerIndex + 1);
      if (holder === 0) return true;
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0) return false;
      Atomics.wait(this.#totals, destinationArea.gate, holder, leftMs);
    }
  }

  /** Whether it is worth to ask {@link #close}. Rounding to a number never makes a time pass another one. */
  #looksIdle(at: number, now: number): boolean {
    if (this.#totals[destinationArea.total(at, cell.pending)] !== 0) return false;
    if (this.#totals[destinationArea.total(at, cell.open)] !== 0) return false;
    const lower = this.#dueHalves[2 * at] ?? 0;
    const upper = this.#dueHalves[2 * at + 1] ?? 0;
    return upper * 2 ** 32 + (lower >>> 0) <= now;
  }

  #close(at: number): boolean {
    const [pending, open] = [destinationArea.total(at, cell.pending), destinationArea.total(at, cell.open)];
    if (Atomics.compareExchange(this.#totals, pending, 0, closed) !== 0) return false;
    if (Atomics.compareExchange(this.#totals, open, 0, closed) === 0) {
      // Nothing is taken from its budget while it is closed.
      if (Atomics.load(this.#dues, at) <= this.#nowNs()) return true;
      Atomics.store(this.#totals, open, 0);
    }
    Atomics.store(this.#totals, pending, 0);
    return false;
  }
}

function lowerHalf(name: bigint): number {
  return Number(BigInt.asIntN(32, name));
}

/** Where to look for a name first, by its lower half. */
function firstSlot(lower: number): number {
  return (lower >>> 0) % maxDestinations;
}

function once(leave: () => void): CountedConnection {
  let isOver = false;
  return {
    leave: () => {
      if (isOver) return;
      isOver = true;
      leave();
    },
  };
}

/**
 * 64 bits of SHA-256. Two of a few thousand names have the same one once in a million million. Those who write documents choose
 * parts of names, and must not find one that has the hash, and with it the budget, of another. Never 0.
 */
function hashOf(text: string): bigint {
  return createHash('sha256').update(text).digest().readBigInt64LE(0) || 1n;
}
