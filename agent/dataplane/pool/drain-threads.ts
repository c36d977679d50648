import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import type { FromWorker, WorkerCommand } from '../messages.js';

/** In addition to the time that a thread gets: for its last message, and for its end. */
const marginMs = 2000;
/** A thread that runs JavaScript ends at once when it is told to. */
const terminateMs = 1000;

/**
 * Resolves when no connection that is open now is open in any of these threads, or after `withinMs`. All of them accept
 * until then: the kernel gives every socket its share of the connections, and those to a socket that only another process
 * keeps would wait.
 */
export async function whenPresentOnesEnded(workers: readonly Worker[], withinMs: number): Promise<void> {
  const settled = workers.map(async (worker) => {
    await new Promise<void>((resolve) => {
      worker.on('message', (message: FromWorker) => {
        if (message.type === 'settled') resolve();
      });
      worker.once('exit', () => resolve());
      tell(worker, { type: 'settle', withinMs });
    });
  });
  // One that hangs does not answer.
  await isDoneWithin(Promise.all(settled), withinMs + marginMs);
}

/** Drains a thread and ends it. False: it cannot be ended, because it waits for a handle that is never closed. */
export async function endThread(o: {
  readonly worker: Worker;
  readonly workerIndex: number;
  readonly graceMs: number;
  readonly log: { error(fields: object, message: string): void };
}): Promise<boolean> {
  const { worker, workerIndex, graceMs, log } = o;
  const exited = once(worker, 'exit');
  tell(worker, { type: 'drain', graceMs });
  if (await isDoneWithin(exited, graceMs + marginMs)) return true;
  log.error({ workerIndex, graceMs }, 'a data-plane thread did not drain in time, and is ended');
  if (await isDoneWithin(worker.terminate(), terminateMs)) return true;
  log.error({ workerIndex }, 'a data-plane thread cannot be ended');
  return false;
}

/** `postMessage` accepts anything; a worker understands only this. Nothing is transferred, so the list is empty. */
export function tell(worker: Worker, command: WorkerCommand): void {
  worker.postMessage(command, []);
}

/** False also when it fails. */
async function isDoneWithin(step: Promise<unknown>, ms: number): Promise<boolean> {
  const timer = new AbortController();
  const late = delay(ms, false, { signal: timer.signal }).catch(() => false);
  const done = step.then(
    () => true,
    () => false,
  );
  const isDone = await Promise.race([done, late]);
  timer.abort();
  return isDone;
}
