import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { flowOrigin } from '../../../../controller/flows/flow-origin.js';
import { WorkloadPlacements } from '../../../../controller/flows/workload-placements.js';
import { workloadName } from '../../../../shared/routing/names.js';
import { registryKey, type WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import type { FlowParty } from '../../../../shared/wire/flows.js';
import { silentLog as log } from '../../../support/controller/controller-fixture.js';
import { reportedFlow } from '../../../support/controller/reported-flow.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';
import { workloadEntry } from '../../../support/rules/analysis-fixture.js';

const hour = 3_600_000;
const start = 20_000 * 24 * hour;
const [a, b] = [nodeNamed('a'), nodeNamed('b')];
const onA = workloadEntry('shop/web', ['198.18.1.1'], { node: a });
const onB = { ...onA, node: b };
const [key, name] = [registryKey(onA), workloadName(onA)];

async function inDirectory(run: (file: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-placements-'));
  try {
    await run(path.join(directory, 'placements.json'));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Placements over a registry of one workload, with a clock that the test sets. */
async function world(file: string, first: WorkloadEntry | undefined, nowMs = start) {
  const state = { entry: first, nowMs };
  const placements = new WorkloadPlacements({
    path: file,
    retentionMs: 14 * 24 * hour,
    nowMs: () => state.nowMs,
    log,
    entryOf: (wanted) => (wanted === key ? state.entry : undefined),
    present: first === undefined ? [] : [key],
  });
  await placements.restore();
  const change = (entry: WorkloadEntry | undefined): void => {
    state.entry = entry;
    placements.noteChanges([key]);
  };
  const origin = flowOrigin({ workload: (wanted) => (wanted === name ? state.entry : undefined), placements });
  return { state, placements, change, origin };
}

const own: FlowParty = { workload: name, identity: onA.identity, cidr: null };
const flow = reportedFlow(start, { source: own });

test('a workload that moved is told of by its new node, and for an hour by the one that it left', async () => {
  await inDirectory(async (file) => {
    const { change, origin } = await world(file, onA);
    assert.deepEqual([origin(a, flow, start), origin(b, flow, start)], ['own', 'foreign']);
    change(onB);
    assert.deepEqual([origin(a, flow, start + hour), origin(b, flow, start)], ['own', 'own']);
    assert.equal(origin(a, flow, start + hour + 1), 'foreign');
    assert.equal(origin(nodeNamed('c'), flow, start), 'foreign');
  });
});

test('a restart knows where a deleted workload ran, and with which identity', async () => {
  await inDirectory(async (file) => {
    const first = await world(file, onA);
    first.change(undefined);
    await first.placements.save();
    const again = await world(file, undefined, start + 24 * hour);
    assert.deepEqual([again.origin(a, flow, start), again.origin(b, flow, start)], ['own', 'unknown']);
    const other = { ...flow, source: { ...own, identity: workloadEntry('ops/admin', []).identity } };
    assert.equal(again.origin(a, other, start), 'unknown');
    const denied = reportedFlow(start, { source: { ...own, identity: null }, verdict: 'deny', reason: 'POLICY_DENY' });
    assert.equal(again.origin(a, denied, start), 'own');

    again.state.nowMs = start + 15 * 24 * hour;
    again.change(onB);
    again.change(undefined);
    await again.placements.save();
    const late = await world(file, undefined, again.state.nowMs);
    assert.deepEqual([late.origin(a, flow, start), late.origin(b, flow, start)], ['unknown', 'own'], 'the oldest go');
  });
});

test('a controller that is killed after a workload moved knows it all the same, from what was there when it saved last', async () => {
  await inDirectory(async (file) => {
    const first = await world(file, onA);
    await first.placements.save();
    first.change(onB);
    // Killed: it saves no more.
    const again = await world(file, onB, start + 1000);
    assert.deepEqual([again.origin(a, flow, start), again.origin(b, flow, start)], ['own', 'own']);
    await again.placements.save();
    const last = await world(file, onB, start + 2000);
    assert.deepEqual(
      [last.origin(a, flow, start), last.origin(a, flow, start + 2 * hour)],
      ['own', 'foreign'],
      'it ended when that was noticed first',
    );
  });
});

test('what nodes stored under a controller that kept no placements is neither theirs nor foreign', async () => {
  await inDirectory(async (file) => {
    const upgraded = await world(file, onB);
    assert.equal(upgraded.origin(a, flow, start - 1), 'unknown');
    assert.equal(upgraded.origin(a, flow, start), 'foreign');
    await upgraded.placements.save();
    const again = await world(file, onB, start + hour);
    assert.equal(again.origin(a, flow, start - 1), 'unknown', 'it is written down');
    assert.equal(again.origin(a, flow, start), 'foreign');
  });
});

test('an identity that a workload had until it changed is its own, and no other one is', async () => {
  await inDirectory(async (file) => {
    const { change, origin } = await world(file, onA);
    const other = workloadEntry('shop/web', ['198.18.1.1'], { node: a, serviceAccount: 'other' });
    const asOther = { ...flow, source: { ...own, identity: other.identity } };
    assert.equal(origin(a, asOther, start), 'foreign');
    change(other);
    assert.deepEqual([origin(a, asOther, start), origin(a, flow, start)], ['own', 'own']);
  });
});

test('a damaged file costs what it knew and nothing else', async () => {
  await inDirectory(async (file) => {
    await writeFile(file, '[{"node":');
    const { origin } = await world(file, onA);
    assert.equal(origin(a, flow, start), 'own');
  });
});

test('no node tells of networks or names that an agent does not write', async () => {
  await inDirectory(async (file) => {
    const { origin } = await world(file, onA);
    const to = (destination: Partial<FlowParty>) =>
      origin(a, { ...flow, destination: { workload: null, identity: null, cidr: null, ...destination } }, start);
    assert.deepEqual(
      [to({ cidr: '203.0.113.0/24' }), to({ cidr: 'fd00:1:2:3::/64' }), to({ cidr: 'shop/payments' })],
      ['own', 'own', 'own'],
    );
    for (const cidr of ['0.0.0.0/0', '203.0.113.0/25', '203.0.0.0/16', '::/0', 'fd00::/48']) {
      assert.equal(to({ cidr }), 'foreign', cidr);
    }
    assert.equal(to({ cidr: '203.0.113.0/24', workload: workloadNamed('data/db') }), 'foreign');
    const unknown: FlowParty = { workload: null, identity: null, cidr: null };
    assert.equal(origin(a, { ...flow, source: unknown }, start), 'foreign', 'for no workload of its own');
    assert.equal(origin(a, { ...flow, source: { ...own, workload: null } }, start), 'foreign');
    assert.equal(origin(a, { ...flow, source: unknown, destination: unknown }, start), 'own', 'a sum');
  });
});
