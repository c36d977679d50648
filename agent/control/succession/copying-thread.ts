import { parentPort, workerData } from 'node:worker_threads';
import { describeError } from '../../../shared/errors.js';
import { copySockets } from './predecessor.js';

export type CopyingInit = { readonly stateDir: string };

/** `fds` null: no agent runs. */
export type Copied =
  | { readonly kind: 'copied'; readonly fds: readonly number[] | null }
  | { readonly kind: 'failed'; readonly problem: string };

/** Asks the running agent for its sockets in a thread of its own, because asking blocks. Descriptors are the process's. */
function copy({ stateDir }: CopyingInit): Copied {
  try {
    return { kind: 'copied', fds: copySockets(stateDir) };
  } catch (error) {
    return { kind: 'failed', problem: describeError(error) };
  }
}

parentPort?.postMessage(copy(workerData as CopyingInit), []);
