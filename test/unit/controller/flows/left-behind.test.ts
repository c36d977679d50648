import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import { FlowHistory } from '../../../../controller/flows/flow-history.js';
import type { Bus, StoredMessage, StreamFollow } from '../../../../shared/bus/bus.js';
import { decodeFlowBatch, encodeFlowBatch } from '../../../../shared/wire/flow-batch.js';
import type { ReportedFlow } from '../../../../shared/wire/flows.js';
import { encodeRecentFlows } from '../../../../shared/wire/recent-flows.js';
import { subjectFor } from '../../../../shared/bus/subjects.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';
import { reportedFlow } from '../../../support/controller/reported-flow.js';

const now = 20_000 * 86_400_000;
const node = nodeNamed('a');
const [first, second] = ['1'.repeat(16), '2'.repeat(16)];

function flow(index: number, connections = 1): ReportedFlow {
  const source = { workload: workloadNamed(`shop/web-${index}`), identity: null, cidr: null };
  return reportedFlow(now, { source, connections });
}

/** A controller's history on a stream that a test holds. `failAt`: the number of the store that fails. */
function historyOn(o: { readonly file?: string; readonly failAt?: number } = {}) {
  let take: (message: StoredMessage) => void = () => undefined;
  const stored: string[] = [];
  let stores = 0;
  let sequence = 0;
  const subject = subjectFor('flows', node);
  const bus = {
    status: 'connected',
    ensureStream: () => Promise.resolve(),
    followStream: ({ onMessage }: { onMessage: typeof take }): StreamFollow => {
      take = onMessage;
      return { isCurrent: true, closed: Promise.resolve() };
    },
    store: async (_subject: string, bytes: Uint8Array) => {
      if (stores++ === o.failAt) throw new Error('timed out');
      const { run, flows } = decodeFlowBatch(bytes);
      stored.push(`${run.slice(0, 1)}:${flows.length}`);
      take({ subject, bytes, sizeBytes: bytes.length, storedAtMs: now, sequence: ++sequence });
    },
  } as unknown as Bus;
  const history = new FlowHistory({
    retentionMs: 14 * 86_400_000,
    maxBytes: 1024 * 1024,
    isOwn: () => true,
    nowMs: () => now,
    log: pino({ level: 'silent' }),
    onBatch: () => undefined,
    ...(o.file === undefined ? {} : { file: o.file }),
  });
  return {
    history,
    stored,
    follow: () => history.follow(bus, new AbortController().signal),
    report: (run: string, flows: readonly ReportedFlow[], after = 0) =>
      history.takeRecent(node, encodeRecentFlows({ run, after, sentAtMs: now, flows })),
    batch: (batchSequence: number, flows: readonly ReportedFlow[], run = first) => {
      const bytes = encodeFlowBatch({ run, sequence: batchSequence, sentAtMs: now, notKept: 0, flows });
      take({ subject, bytes, sizeBytes: bytes.length, storedAtMs: now, sequence: ++sequence });
    },
    connections: () =>
      history.query({ sinceMs: 0, namespace: null }).flows.reduce((sum, { connections }) => sum + connections, 0),
  };
}

test('a part that could not be stored is stored at the next try, and the others once', async () => {
  const { history, stored, report, connections, follow } = historyOn({ failAt: 1 });
  await follow();
  for (let part = 0; part < 3; part++)
    report(
      first,
      Array.from({ length: 500 }, (_, i) => flow(part * 500 + i)),
    );
  report(second, []);
  await assert.rejects(history.storeLeftBehind(), /timed out/);
  assert.deepEqual(stored, ['1:500']);
  for (let round = 0; round < 3; round++) await history.storeLeftBehind();
  assert.deepEqual(stored, ['1:500', '1:500', '1:500']);
  assert.equal(connections(), 1500);
});

test('what agents had reported is there after a restart, until their batches replace it', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-left-'));
  const file = path.join(directory, 'recent-flows.json');
  try {
    const before = historyOn({ file });
    await before.history.restore();
    before.report(first, [flow(1, 5), flow(2, 7)], 3);
    await before.history.save();
    assert.equal((await stat(file)).mode & 0o777, 0o600);

    const after = historyOn({ file });
    await after.history.restore();
    assert.equal(after.connections(), 12);
    await after.follow();
    after.batch(3, [flow(1, 1)]);
    assert.equal(after.connections(), 13, 'that batch was before the reports');
    after.batch(4, [flow(1, 6)]);
    assert.equal(after.connections(), 1 + 6 + 7);
    await after.history.storeLeftBehind();
    assert.ok((await stat(file)).isFile(), 'the second flow is in memory only');
    after.report(first, [flow(2, 8)], 4);
    await after.history.storeLeftBehind();
    await assert.rejects(stat(file), { code: 'ENOENT' });
    assert.equal(after.history.asOfMs(node), now);

    await writeFile(file, '[{"node":');
    const damaged = historyOn({ file });
    await damaged.history.restore();
    assert.equal(damaged.connections(), 0);
  } finally {
    await rm(directory, { recursive: true });
  }
});
