import { parentPort, workerData } from 'node:worker_threads';
import { Predecessor } from '../../../agent/control/succession/predecessor.js';

/**
 * A successor in a thread of its own, because asking the running agent blocks the thread that asks. Says what it found,
 * and takes over at the next message.
 */
export type SuccessorFound = { readonly pid: number; readonly sockets: readonly number[] } | null;
export type SuccessorOutcome = 'in charge' | { readonly code: string };

const predecessor = Predecessor.find((workerData as { readonly stateDir: string }).stateDir);
const found: SuccessorFound = predecessor === null ? null : { pid: predecessor.pid, sockets: [...predecessor.sockets] };
parentPort?.postMessage(found, []);
parentPort?.once('message', () => {
  const say = (outcome: SuccessorOutcome): void => parentPort?.postMessage(outcome, []);
  void predecessor?.takeOver().then(
    () => say('in charge'),
    (error: NodeJS.ErrnoException) => say({ code: error.code ?? String(error) }),
  );
});
