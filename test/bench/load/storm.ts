import process from 'node:process';
import { Quantiles } from '../quantiles.js';
import { awaitAnswer, dialPeer, readArguments, report } from './peer-connections.js';

/** `storm.js HOST PORT COUNT`: opens COUNT connections at once and times each until it has echoed a byte. */
const { address, count } = readArguments();
const startedAt = performance.now();
const outcomes = await Promise.allSettled(Array.from({ length: count }, once));
const totalMs = performance.now() - startedAt;
const times = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
const failed = outcomes.filter((outcome) => outcome.status === 'rejected');
if (failed[0] !== undefined) process.stderr.write(`first failure: ${String(failed[0].reason)}\n`);
const quantiles = new Quantiles({ values: Float64Array.from(times.length > 0 ? times : [Number.NaN]) });
report({
  totalMs,
  failed: failed.length,
  p50Us: quantiles.at(0.5) * 1000,
  p99Us: quantiles.at(0.99) * 1000,
  p999Us: quantiles.at(0.999) * 1000,
});
// The benchmark uses only the figures, so how the connections end does not matter.
process.kill(process.pid, 'SIGTERM');

async function once(): Promise<number> {
  const socket = await dialPeer(address, 'e');
  socket.on('error', () => {});
  await awaitAnswer(socket);
  return performance.now() - startedAt;
}
