import { parentPort, workerData } from 'node:worker_threads';
import type { Http2Engine } from '../engine/http2-engine.js';
import type { FromWorker, PoolWorkerInit, WorkerCommand } from '../messages.js';
import type { Http2EngineName } from '../settings.js';
import { DataplaneWorker } from './dataplane-worker.js';

/** Entry of a data-plane thread: connects the worker to the messages of the control thread. */
const port = parentPort;
if (port === null) throw new Error('this module is the entry of a worker thread');

const post = (message: FromWorker): void => port.postMessage(message);
const init = workerData as PoolWorkerInit;
const worker = new DataplaneWorker({ init, engine: await loadEngine(init.settings.http2Engine), post });
port.on('message', (command: WorkerCommand) => worker.receive(command));
post({ type: 'online' });

/** Loads only the engine that is used: `node:http2` alone takes a megabyte of each thread. */
async function loadEngine(name: Http2EngineName): Promise<Http2Engine> {
  if (name === 'node') return (await import('../engine/node/node-http2-engine.js')).nodeHttp2Engine;
  return (await import('../engine/lean/lean-http2-engine.js')).leanHttp2Engine;
}
