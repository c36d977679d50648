import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { ChecksummedFile } from '../../../../agent/control/state/checksummed-file.js';
import { capturedNamespacesSchema } from '../../../../agent/control/state/last-good-state.js';
import { CaptureLedger, type LedgerEntry } from '../../../../agent/control/workloads/capture-ledger.js';
import { HeldWorkloads } from '../../../../agent/control/workloads/held-workloads.js';
import type { CaptureControl } from '../../../../agent/control/workloads/workload-controls.js';
import { createLog } from '../../../../shared/log.js';
import { podNetns } from '../../../../shared/routing/registry-entry.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';
import { workloadNamed } from '../../../support/routing/names.js';

/** The namespace of this process: one that is there. */
const here = '/proc/self/ns/net';
const inode = statSync(here).ino;
const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
const web = workloadNamed('shop/web');
const lost = new Map([[web, { netns: podNetns('6e2c') }]]);

async function heldWorkloads(entries: readonly LedgerEntry[] = []): Promise<AsyncDisposable & { held: HeldWorkloads }> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-held-'));
  const file = new ChecksummedFile({
    path: path.join(directory, 'captured.json'),
    parse: (value) => capturedNamespacesSchema.parse(value),
  });
  // No step of this test loads or removes a rule.
  const capture: Pick<CaptureControl, 'isRuled' | 'isHolding' | 'expect'> = {
    isRuled: async () => false,
    isHolding: () => false,
    expect: () => undefined,
  };
  const held = new HeldWorkloads({
    capture: capture as CaptureControl,
    ledger: new CaptureLedger({ file, entries, log }),
    scheduler: new FakeScheduler(),
    log,
    ownInode: 0,
    ownCgroup: null,
    onDropped: () => undefined,
  });
  return { held, [Symbol.asyncDispose]: async () => await rm(directory, { recursive: true }) };
}

function captured(netnsPath: string, netnsInode: number, workload = web): LedgerEntry {
  return { workload, netnsPath, netnsInode, addresses: [] };
}

test('a pod whose sandbox is not known is where this run or an earlier one captured it', async () => {
  await using earlier = await heldWorkloads([captured(here, inode)]);
  assert.deepEqual([...earlier.held.located(lost)], [[web, { netns: here }]]);
  await using present = await heldWorkloads();
  assert.deepEqual(present.held.located(lost), lost);
  await present.held.follow(new Map([[web, { kind: 'found', path: here, inode }]]), () => true);
  assert.deepEqual([...present.held.located(lost)], [[web, { netns: here }]]);
});

test('a namespace that is gone, another one in its place, and that of another workload are not where it is', async () => {
  for (const entry of [
    captured('/run/netns/culvert-none', inode),
    captured(here, inode + 1),
    captured(here, inode, workloadNamed('shop/other')),
  ]) {
    await using none = await heldWorkloads([entry]);
    assert.equal([...none.held.located(lost).values()][0]?.netns, podNetns('6e2c'));
  }
});

test('a workload whose namespace has a name stays with it', async () => {
  await using earlier = await heldWorkloads([captured(here, inode)]);
  const named = new Map([[web, { netns: 'cni-1' }]]);
  assert.equal(earlier.held.located(named), named);
});
