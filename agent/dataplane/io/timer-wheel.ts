/** Something that is due once, at a time that may be changed as often as it moves. Its links are the wheel's. */
export abstract class Timed {
  /** In ticks of its wheel; -1 while it is in none. */
  dueTick = -1;
  before: Timed | null = null;
  after: Timed | null = null;
  /** It is in no wheel any more, and may be set again. */
  abstract onDue(): void;
}

class Head extends Timed {
  override onDue(): void {}
}

/**
 * Timers of many connections: setting, moving and taking one off touch two neighbours, and make nothing. One is due up to a tick
 * late, never early. What is due later than one round of the wheel is passed over once in each round.
 */
export class TimerWheel {
  readonly #tickMs: number;
  readonly #slots: readonly Head[];
  #tick: number;
  #size = 0;

  constructor(init: { readonly tickMs: number; readonly slots: number; readonly nowMs: number }) {
    this.#tickMs = init.tickMs;
    this.#slots = Array.from({ length: init.slots }, () => new Head());
    for (const head of this.#slots) head.before = head.after = head;
    this.#tick = Math.floor(init.nowMs / init.tickMs);
  }

  get size(): number {
    return this.#size;
  }

  /** Also moves one that is set. `dueMs` on the clock of {@link advance}; what is past is due with the next tick. */
  set(timed: Timed, dueMs: number): void {
    const tick = Math.max(this.#tick + 1, Math.ceil(dueMs / this.#tickMs));
    if (timed.dueTick === tick) return;
    this.clear(timed);
    const head = this.#slots[tick % this.#slots.length];
    if (head === undefined) throw new Error('a wheel without slots');
    timed.dueTick = tick;
    timed.before = head.before;
    timed.after = head;
    if (head.before !== null) head.before.after = timed;
    head.before = timed;
    this.#size += 1;
  }

  clear(timed: Timed): void {
    if (timed.dueTick < 0) return;
    timed.dueTick = -1;
    if (timed.before !== null) timed.before.after = timed.after;
    if (timed.after !== null) timed.after.before = timed.before;
    timed.before = timed.after = null;
    this.#size -= 1;
  }

  /** Tells all that are due by now, in the order of their ticks. They may set and clear any of the wheel. */
  advance(nowMs: number): void {
    const until = Math.floor(nowMs / this.#tickMs);
    // After a long sleep every slot is looked at once.
    this.#tick = Math.max(this.#tick, until - this.#slots.length);
    while (this.#tick < until) {
      this.#tick += 1;
      this.#tellDue(this.#slots[this.#tick % this.#slots.length]);
    }
  }

  /** From the front again after each one: it may have taken off its neighbour. */
  #tellDue(head: Head | undefined): void {
    for (let each = head?.after ?? null; each !== null && each !== head;) {
      const next = each.after;
      if (each.dueTick > this.#tick) each = next;
      else {
        this.clear(each);
        each.onDue();
        each = head?.after ?? null;
      }
    }
  }
}
