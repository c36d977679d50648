import { Worker } from 'node:worker_threads';
import type { PoolWorkerInit } from '../messages.js';

/**
 * Data-plane threads that load their code before it is known what they serve. Loading takes as long as all that the
 * control thread does until then, and another core does it at the same time: an agent starts in half the time.
 */
export class WarmWorkers implements Disposable {
  readonly #waiting: Worker[];

  /** A thread that dies before it is needed is not used; the pool reports one that cannot be started. */
  constructor(init: { readonly count: number }) {
    this.#waiting = Array.from({ length: init.count }, () => startThread(null, 'culvert-dataplane'));
    for (const worker of this.#waiting) worker.on('error', () => undefined);
  }

  /** For `WorkerPool`: a thread that is loaded already, or a new one. The caller owns it. */
  take(init: PoolWorkerInit): Worker {
    for (let worker = this.#waiting.shift(); worker !== undefined; worker = this.#waiting.shift()) {
      // Of a thread that has ended.
      if (worker.threadId < 0) continue;
      worker.postMessage(init, []);
      return worker;
    }
    return spawnWorker(init);
  }

  /** Ends the threads that were not taken. */
  [Symbol.dispose](): void {
    for (const worker of this.#waiting.splice(0)) void worker.terminate();
  }
}

/** Starts a thread for one worker. Its open files, such as namespaces, are closed however it ends. */
export function spawnWorker(init: PoolWorkerInit): Worker {
  return startThread(init, `culvert-dataplane-${init.workerIndex}`);
}

/** `init` null: the thread's first message is its {@link PoolWorkerInit}. */
function startThread(init: PoolWorkerInit | null, name: string): Worker {
  const entry = new URL('../worker/worker.js', import.meta.url);
  return new Worker(entry, { workerData: init, name, trackUnmanagedFds: true });
}
