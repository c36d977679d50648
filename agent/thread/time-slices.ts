import { setImmediate } from 'node:timers/promises';

/** Long work runs for this time before the event loop gets a turn; the time is read once per some items. */
const sliceMs = 4;
const itemsPerTimeCheck = 16;

/** Cuts long work on a thread into slices: after each item, `if (slices.isOver) await slices.pause()`. */
export class TimeSlices {
  #items = 0;
  #endsMs = performance.now() + sliceMs;

  get isOver(): boolean {
    this.#items += 1;
    return this.#items % itemsPerTimeCheck === 0 && performance.now() >= this.#endsMs;
  }

  async pause(): Promise<void> {
    await setImmediate();
    this.#endsMs = performance.now() + sliceMs;
  }
}
