import { MessageChannel, type Worker } from 'node:worker_threads';
import type { WorkerCommand, WorkerLink } from '../messages.js';

type LinkEnd = { readonly index: number; readonly worker: Worker };

/** Lets two workers pass connections to each other. The channel ends with the first of them. */
export function linkWorkers(a: LinkEnd, b: LinkEnd): void {
  const { port1, port2 } = new MessageChannel();
  const takenByA = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const takenByB = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const send = ({ worker }: LinkEnd, link: Omit<WorkerLink, 'type'>): void =>
    worker.postMessage({ type: 'link', ...link } satisfies WorkerCommand, [link.port]);
  send(a, { workerIndex: b.index, port: port1, takenByOther: takenByB, takenHere: takenByA });
  send(b, { workerIndex: a.index, port: port2, takenByOther: takenByA, takenHere: takenByB });
}
