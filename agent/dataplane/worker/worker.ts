import { parentPort, workerData } from 'node:worker_threads';
import type { Http2Engine } from '../engine/http2-engine.js';
import { leanHttp2Engine } from '../engine/lean/lean-http2-engine.js';
import type { FromWorker, PoolWorkerInit, WorkerCommand } from '../messages.js';
import type { Http2EngineName } from '../settings.js';
import { DataplaneWorker } from './dataplane-worker.js';

/**
 * Entry of a data-plane thread: connects the worker to the messages of the control thread. A thread that was started
 * without `workerData` gets it as its first message.
 */
const port = parentPort;
if (port === null) throw new Error('this module is the entry of a worker thread');

const post = (message: FromWorker): void => port.postMessage(message);
let worker: DataplaneWorker | null = null;
/** What arrived before the worker was made. */
const early: WorkerCommand[] = [];

async function begin(init: PoolWorkerInit): Promise<void> {
  const engine = await loadEngine(init.settings.http2Engine);
  worker = new DataplaneWorker({ init, engine, post });
  for (const command of early) worker.receive(command);
  post({ type: 'online' });
}

function receive(command: WorkerCommand): void {
  if (worker === null) early.push(command);
  else worker.receive(command);
}

port.on('message', (message: PoolWorkerInit | WorkerCommand) => {
  if ('type' in message) receive(message);
  else void begin(message);
});
const given = workerData as PoolWorkerInit | null;
if (given !== null) await begin(given);

/** Loads `node:http2` only where it is used: it alone takes a megabyte of each thread. */
async function loadEngine(name: Http2EngineName): Promise<Http2Engine> {
  return name === 'node' ? (await import('../engine/node/node-http2-engine.js')).nodeHttp2Engine : leanHttp2Engine;
}
