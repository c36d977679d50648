import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { NodeMembers } from '../../../../controller/join/node-members.js';
import { nodeNamed } from '../../../support/routing/names.js';

const node = nodeNamed('host-a');
const clock = { nowMs: 1_000_000 };

async function withMembers(
  run: (o: { open: () => Promise<NodeMembers>; file: string }) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-members-'));
  const file = path.join(directory, 'nodes.json');
  clock.nowMs = 1_000_000;
  try {
    await run({
      file,
      open: () => NodeMembers.open({ path: file, nowMs: () => clock.nowMs, credentialTtlMs: 1_000_000 }),
    });
  } finally {
    await rm(directory, { recursive: true });
  }
}

type Issued = Parameters<NodeMembers['noteIssued']>[0];

function issued(serial: string, user = 'U1', o: Partial<Issued> = {}): Issued {
  return {
    node,
    natsUserPublicKey: user,
    serial,
    notAfterMs: 2_000_000,
    standing: 0,
    by: 'join',
    namesConsumers: true,
    ...o,
  };
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
    await members.noteIssued(issued('03', 'U3', { standing: members.standing(node) }));
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
    await members.noteIssued(issued('01', 'one more', { notAfterMs: 3_000_000 }));
  });
});

test('a credential that was renewed is revoked after a restart too, long after the first one would have ended', async () => {
  await withMembers(async ({ open }) => {
    const first = await open();
    await first.noteIssued(issued('01'));
    for (let renewal = 1; renewal <= 3; renewal++) {
      clock.nowMs += 900_000;
      await first.noteIssued(issued('02', 'U1', { by: 'renewal', notAfterMs: clock.nowMs + 1_000_000 }));
    }
    const members = await open();
    await members.remove(node);
    const revokedAtMs = clock.nowMs;
    assert.deepEqual(members.revokedUsers, [{ publicKey: 'U1', revokedAtMs }]);
    clock.nowMs += 999_999;
    assert.deepEqual((await open()).revokedUsers, [{ publicKey: 'U1', revokedAtMs }]);
  });
});

test('a removal revokes every user that it knows, however old it looks', async () => {
  await withMembers(async ({ open }) => {
    const members = await open();
    await members.noteIssued(issued('01'));
    clock.nowMs = 5_000_000;
    await members.remove(node);
    assert.deepEqual(members.revokedUsers, [{ publicKey: 'U1', revokedAtMs: 5_000_000 }]);
  });
});

test('what began before a removal makes no member, and only a join does', async () => {
  await withMembers(async ({ open }) => {
    const members = await open();
    await members.noteIssued(issued('01'));
    const standing = members.standing(node);
    await members.remove(node);
    await members.remove(node);
    const now = members.standing(node);
    for (const late of [
      issued('02', 'U1', { standing, by: 'renewal' }),
      issued('02', 'U2', { standing, by: 'join' }),
      issued('02', 'U1', { standing: now, by: 'renewal' }),
    ]) {
      await assert.rejects(members.noteIssued(late), { code: 'NODE_REMOVED', hint: /join the host again/ });
    }
    for (const each of [members, await open()]) {
      assert.deepEqual([each.isRemoved(node), each.isRevoked(node, '02')], [true, true]);
      assert.deepEqual(
        each.revokedUsers.map(({ publicKey }) => publicKey),
        ['U1'],
      );
    }
    await members.noteIssued(issued('03', 'U3', { standing: now }));
    assert.ok(members.has(node));
  });
});

test('a credential that is written together with a removal is refused, and its user is revoked', async () => {
  await withMembers(async ({ open }) => {
    const members = await open();
    const busy = members.noteIssued(issued('00', 'U0', { node: nodeNamed('host-b') }));
    const joining = assert.rejects(members.noteIssued(issued('01')), { code: 'NODE_REMOVED' });
    const removing = members.remove(node);
    await Promise.all([busy, joining, removing]);
    assert.deepEqual([members.isRemoved(node), members.revokedUsers.map(({ publicKey }) => publicKey)], [true, ['U1']]);
  });
});

test('a node was out from its removal until it joined again', async () => {
  await withMembers(async ({ open }) => {
    const members = await open();
    await members.noteIssued(issued('01'));
    assert.equal(members.wasOut(node, clock.nowMs), false);
    await members.remove(node);
    clock.nowMs += 100;
    await members.noteIssued(issued('02', 'U2', { standing: members.standing(node) }));
    const again = await open();
    const at = [1_000_000, 1_000_001, 1_000_099, 1_000_100].map((atMs) => again.wasOut(node, atMs));
    assert.deepEqual(at, [false, true, true, false]);
  });
});

test('a damaged file is an error that says how to go on, not a list without removals', async () => {
  await withMembers(async ({ open, file }) => {
    const members = await open();
    await members.noteIssued(issued('01'));
    await members.remove(node);
    for (const text of ['[{"node":', '', '[{"node":"host-a"}]']) {
      await writeFile(file, text);
      await assert.rejects(open(), {
        code: 'NODES_INVALID',
        message: /nodes.json is damaged/,
        hint: /backup.*delete it/,
      });
    }
  });
});
