import { parentPort, workerData } from 'node:worker_threads';
import type { FromWorker, PoolWorkerInit, WorkerCommand } from '../messages.js';
import { DataplaneWorker } from './dataplane-worker.js';
import { loadEngine } from './load-engine.js';

/** Entry of a data-plane thread: joins the worker to the control thread's messages, and nothing else. */
const port = parentPort;
if (port === null) throw new Error('this module is the entry of a worker thread');

const post = (message: FromWorker): void => port.postMessage(message);
const init = workerData as PoolWorkerInit;
const worker = new DataplaneWorker({ init, engine: await loadEngine(init.settings.http2Engine), post });
port.on('message', (command: WorkerCommand) => worker.receive(command));
post({ type: 'online' });
