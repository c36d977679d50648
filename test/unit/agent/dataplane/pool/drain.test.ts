import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import type { FromWorker, WorkerCommand } from '../../../../../agent/dataplane/messages.js';
import { WorkerPool } from '../../../../../agent/dataplane/pool/worker-pool.js';
import type { DataplaneSettings } from '../../../../../agent/dataplane/settings.js';
import { nodeNamed } from '../../../../support/routing/names.js';

/** A thread that answers a drain with this message, or never. */
class FakeThread extends EventEmitter {
  readonly #answer: FromWorker | null;
  readonly #canEnd: boolean;

  constructor(init: { readonly answer: FromWorker | null; readonly canEnd: boolean }) {
    super();
    this.#answer = init.answer;
    this.#canEnd = init.canEnd;
    setImmediate(() => this.emit('message', { type: 'online' } satisfies FromWorker));
  }

  postMessage({ type }: WorkerCommand): void {
    if (type === 'drain' && this.#answer !== null) this.emit('message', this.#answer);
  }

  async terminate(): Promise<number> {
    if (!this.#canEnd) await new Promise(() => {});
    this.emit('exit', 0);
    return 0;
  }
}

type Line = { readonly level: string; readonly fields: Record<string, unknown>; readonly message: string };

async function drained(thread: FakeThread): Promise<{ lines: Line[]; stuckThreads: number; tookMs: number }> {
  const lines: Line[] = [];
  const log = Object.fromEntries(
    ['info', 'warn', 'error'].map((level) => [
      level,
      (fields: Record<string, unknown>, message: string): unknown => lines.push({ level, fields, message }),
    ]),
  ) as unknown as ConstructorParameters<typeof WorkerPool>[0]['log'];
  const pool = new WorkerPool({
    workers: 1,
    node: nodeNamed('n1'),
    trustDomain: 'culvert.test',
    settings: {} as DataplaneSettings,
    log,
    spawn: () => thread as unknown as Worker,
  });
  await pool.start();
  const startedMs = performance.now();
  const { stuckThreads } = await pool.drain(10);
  return { lines, stuckThreads, tookMs: performance.now() - startedMs };
}

const connection = {
  traceId: 'a'.repeat(32),
  direction: 'outbound',
  path: 'hbone',
  source: 'shop/web (198.18.11.2:40000)',
  destination: 'shop/db (198.18.12.2:5432)',
  rule: 'Mesh/default',
  bytesSent: 1,
  bytesReceived: 2,
  startedAtMs: 3,
} as const;

test('a drain that cut nothing says nothing', async () => {
  const answer = { type: 'drained', cut: 0, givenUp: 0, named: [] } as const;
  const { lines, stuckThreads } = await drained(new FakeThread({ answer, canEnd: true }));
  assert.deepEqual([lines, stuckThreads], [[], 0]);
});

test('a drain says how many connections it cut, and names them', async () => {
  const answer = { type: 'drained', cut: 1, givenUp: 0, named: [connection] } as const;
  const { lines } = await drained(new FakeThread({ answer, canEnd: true }));
  assert.deepEqual(lines, [
    {
      level: 'warn',
      fields: { workerIndex: 0, cut: 1, connections: [connection] },
      message: 'the drain is over: open connections were cut',
    },
  ]);
});

test('a connection that did not end when it was cut is an error in the log', async () => {
  const answer = { type: 'drained', cut: 2, givenUp: 1, named: [connection] } as const;
  const { lines } = await drained(new FakeThread({ answer, canEnd: true }));
  assert.deepEqual([lines[0]?.level, lines[0]?.fields['givenUp']], ['error', 1]);
});

test('a drain ends although its thread neither drains nor can be ended, and says so', async () => {
  const { lines, stuckThreads, tookMs } = await drained(new FakeThread({ answer: null, canEnd: false }));
  assert.equal(stuckThreads, 1);
  assert.ok(tookMs < 20_000, `${tookMs} ms`);
  assert.deepEqual(
    lines.map(({ message }) => message),
    ['a data-plane thread did not drain in time, and is ended', 'a data-plane thread cannot be ended'],
  );
});

test('a thread that does not drain is ended', async () => {
  const { lines, stuckThreads } = await drained(new FakeThread({ answer: null, canEnd: true }));
  assert.deepEqual([lines.length, stuckThreads], [1, 0]);
});
