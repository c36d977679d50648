import { availableParallelism, loadavg } from 'node:os';
import { timeoutSignal } from '../../shared/timeout-signal.js';

/**
 * How many times longer than on an idle machine something may take before it counts as hung: the processes that want to run
 * for each core, at least 1. Only for deadlines, whose sole purpose is to end a test that hangs.
 */
export function patience(): number {
  return Math.max(1, (loadavg()[0] ?? 0) / availableParallelism());
}

/** A deadline as it is on this machine now. */
export function patientMs(idleMs: number): number {
  return Math.ceil(idleMs * patience());
}

/** Aborts after a deadline. */
export function patientSignal(idleMs: number): AbortSignal {
  return timeoutSignal(patientMs(idleMs));
}

/** Calls `late` when the deadline is over, as it is at that moment: load that came meanwhile prolongs it. */
export class PatientTimer {
  readonly #startedAtMs = performance.now();
  readonly #idleMs: number;
  readonly #late: () => void;
  #timer: NodeJS.Timeout;

  constructor(idleMs: number, late: () => void) {
    this.#idleMs = idleMs;
    this.#late = late;
    this.#timer = setTimeout(() => this.#check(), idleMs);
  }

  clear(): void {
    clearTimeout(this.#timer);
  }

  #check(): void {
    const leftMs = patientMs(this.#idleMs) - (performance.now() - this.#startedAtMs);
    if (leftMs <= 0) this.#late();
    else this.#timer = setTimeout(() => this.#check(), leftMs);
  }
}
