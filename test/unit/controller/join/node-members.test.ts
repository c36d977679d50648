import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import { NodeMembers } from '../../../../controller/join/node-members.js';
import { nodeNamed } from '../../../support/routing/names.js';

const log = pino({ level: 'silent' });
const node = nodeNamed('host-a');
const clock = { nowMs: 1_000_000 };

async function withMembers(
  run: (o: { open: () => Promise<NodeMembers>; file: string }) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-members-'));
  const file = path.join(directory, 'nodes.json');
  clock.nowMs = 1_000_000;
  try {
    await run({ file, open: () => NodeMembers.open({ path: file, nowMs: () => clock.nowMs, log }) });
  } finally {
    await rm(directory, { recursive: true });
  }
}

function issued(serial: string, user = 'U1', notAfterMs = 2_000_000): Parameters<NodeMembers['noteIssued']>[0] {
  return { node, natsUserPublicKey: user, serial, notAfterMs };
}

test('a removal takes every certificate and every NATS user away, also after a restart', async () => {
  await withMembers(async ({ open }) => {
    const members = await open();
    await members.noteIssued(issued('01'));
    await members.noteIssued(issued('02', 'U2'));
    assert.deepEqual([members.has(node), members.isRevoked(node, '01')], [true, false]);
    assert.deepEqual((await members.remove(node)).users, ['U1', 'U2']);
    for (const each of [members, await open()]) {
      assert.deepEqual([each.has(node), each.isRemoved(node), each.isRevoked(node, '01')], [false, true, true]);
      assert.deepEqual(
        each.revokedUsers.map(({ publicKey }) => publicKey),
        ['U1', 'U2'],
      );
    }
    clock.nowMs = 2_000_001;
    assert.deepEqual(members.revokedUsers, [], 'expired by themselves');
    assert.ok(members.isRevoked(node, '01'));
  });
});

test('a node that joins again is a member by what was issued since', async () => {
  await withMembers(async ({ open }) => {
    const members = await open();
    await members.noteIssued(issued('01'));
    await members.remove(node);
    await members.noteIssued(issued('03', 'U3'));
    for (const each of [members, await open()]) {
      assert.deepEqual(
        [each.isRemoved(node), each.isRevoked(node, '03'), each.isRevoked(node, '01')],
        [false, false, true],
      );
    }
    await members.remove(node);
    assert.ok(members.isRevoked(node, '03'));
  });
});

test('a removal that cannot be stored has not happened', async () => {
  await withMembers(async ({ open, file }) => {
    const members = await open();
    await members.noteIssued(issued('01'));
    await rm(file);
    await mkdir(path.join(file, 'in-the-way'), { recursive: true });
    await assert.rejects(members.remove(node), { code: 'STATE_WRITE' });
    assert.deepEqual([members.has(node), members.isRevoked(node, '01'), members.revokedUsers], [true, false, []]);
  });
});

test('a node cannot collect credentials without end', async () => {
  await withMembers(async ({ open }) => {
    const members = await open();
    for (let count = 0; count < 256; count++) await members.noteIssued(issued('01', `U${count}`));
    await assert.rejects(members.noteIssued(issued('01', 'one more')), { code: 'TOO_MANY_CREDENTIALS' });
    clock.nowMs = 2_000_001;
    await members.noteIssued(issued('01', 'one more', 3_000_000));
  });
});
