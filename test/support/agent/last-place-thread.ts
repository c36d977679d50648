import { workerData } from 'node:worker_threads';
import { DestinationUsage } from '../../../agent/dataplane/destination-usage.js';

/**
 * `counts`: how many have begun or ended a round, then how many threads got the place of each. `hasNames`: each round has a
 * destination of its own.
 */
export type LastPlaces = {
  readonly usage: SharedArrayBuffer;
  readonly counts: SharedArrayBuffer;
  readonly workers: number;
  readonly workerIndex: number;
  readonly rounds: number;
  readonly hasNames: boolean;
};

/** All threads ask for the one place of a destination at the same instant, round after round. */
const { usage: buffer, counts: shared, workers, workerIndex, rounds, hasNames } = workerData as LastPlaces;
/** A busy machine may leave a thread without a processor for long. */
const usage = new DestinationUsage({ buffer, workers, workerIndex, longestWaitMs: 60_000 });
const counts = new Int32Array(shared);

/** Nearly always the others come within microseconds, and a thread that slept would be late: it spins first. */
const spins = 20_000;

function meet(times: number): void {
  const all = times * workers;
  if (Atomics.add(counts, 0, 1) + 1 === all) Atomics.notify(counts, 0);
  for (let spin = 0; spin < spins && Atomics.load(counts, 0) < all; spin++);
  for (let now = Atomics.load(counts, 0); now < all; now = Atomics.load(counts, 0)) Atomics.wait(counts, 0, now, 50);
}

for (let round = 0; round < rounds; round++) {
  meet(2 * round + 1);
  const place = usage.take({ key: hasNames ? `web${round}` : 'web', client: 'shop/api' }, 'open', 1);
  if (place !== null) Atomics.add(counts, 1 + round, 1);
  meet(2 * round + 2);
  place?.leave();
}
