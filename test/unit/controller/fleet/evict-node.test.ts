import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { AgentRegistry } from '../../../../controller/fleet/agent-registry.js';
import { evictNode } from '../../../../controller/fleet/evict-node.js';
import { WithdrawnIdentities } from '../../../../controller/fleet/withdrawn-identities.js';
import { NatsRevocations } from '../../../../controller/fleet/nats-revocations.js';
import { JoinTokens } from '../../../../controller/join/join-tokens.js';
import { NodeMembers, type RevokedUser } from '../../../../controller/join/node-members.js';
import { silentLog as log } from '../../../support/controller/controller-fixture.js';
import type { NodeName } from '../../../../shared/routing/names.js';
import { nodeNamed } from '../../../support/routing/names.js';

const node = nodeNamed('host-a');
const nowMs = (): number => 1_000_000;
const issued = {
  node,
  natsUserPublicKey: 'U1',
  serial: '01',
  notAfterMs: 2_000_000,
  standing: 0,
  by: 'join',
  namesConsumers: true,
} as const;

type Fleet = Parameters<typeof evictNode>[1] & {
  readonly revocations: NatsRevocations;
  readonly identities: WithdrawnIdentities;
  readonly members: NodeMembers;
};

/** `revoke`: what NATS does with the list. `withdraw`: what the inventory does with the nodes. */
async function withFleet(
  revoke: (users: readonly RevokedUser[]) => Promise<boolean>,
  run: (o: Fleet) => Promise<void>,
  withdraw: (nodes: readonly NodeName[]) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-evict-'));
  try {
    const members = await NodeMembers.open({ path: path.join(directory, 'nodes.json'), nowMs, credentialTtlMs: 1000 });
    const tokens = await JoinTokens.open({
      path: path.join(directory, 'tokens.json'),
      nowMs,
      caHash: () => '0'.repeat(64),
      log,
    });
    const agents = new AgentRegistry({
      log,
      nowMs,
      staleAfterMs: 1000,
      clockSkewWarningMs: 1000,
      forgetAfterMs: 1000,
      isRemoved: (each) => members.isRemoved(each),
    });
    const inventory = { withdrawIdentities: (nodes: () => readonly NodeName[]) => withdraw(nodes()) };
    const identities = new WithdrawnIdentities({ members, inventory, log });
    const revocations = new NatsRevocations({ members, nats: { revoke }, log });
    await run({ members, tokens, agents, log, revocations, identities, begin: async () => undefined });
  } finally {
    await rm(directory, { recursive: true });
  }
}

test('a token that is used while its node is removed is worth nothing afterwards', async () => {
  await withFleet(
    async () => true,
    async (fleet) => {
      const { members, tokens, agents } = fleet;
      await members.noteIssued(issued);
      const { token } = await tokens.create({ node, ttlMs: 1000, createdBy: 'me' });
      const standing = members.standing(node);
      const redeeming = tokens.redeem(token, node, 'holder');
      const evicting = evictNode(node, fleet);
      assert.equal((await redeeming).ok, true);
      await evicting;
      const late = members.noteIssued({ ...issued, natsUserPublicKey: 'U2', standing });
      await assert.rejects(late, { code: 'NODE_REMOVED' });
      agents.noteJoined(node);
      assert.deepEqual([agents.list({ revision: 0, sequence: 12 }), members.isRemoved(node)], [[], true]);
      assert.deepEqual(await tokens.redeem(token, node, 'holder'), { ok: false, refusal: 'TOKEN_REVOKED' });
    },
  );
});

test('a revocation that nats-server did not take over is not called done, and is tried again until it is', async () => {
  let isFull = true;
  const taken: (readonly RevokedUser[])[] = [];
  await withFleet(
    async (users) => {
      if (isFull) throw new Error('ENOSPC: no space left on device');
      taken.push(users);
      return true;
    },
    async (fleet) => {
      await fleet.members.noteIssued(issued);
      const { nats } = await evictNode(node, fleet);
      assert.deepEqual(nats, { kind: 'pending', problem: 'ENOSPC: no space left on device' });
      await fleet.revocations.retry();
      assert.deepEqual(taken, []);
      isFull = false;
      await fleet.revocations.retry();
      await fleet.revocations.retry();
      assert.deepEqual(taken, [[{ publicKey: 'U1', revokedAtMs: 1_000_000 }]]);
    },
  );
});

test('identities that the disk did not take are not called withdrawn, and are tried again until they are', async () => {
  let isFull = true;
  const taken: (readonly NodeName[])[] = [];
  await withFleet(
    async () => true,
    async (fleet) => {
      await fleet.members.noteIssued(issued);
      assert.equal((await evictNode(node, fleet)).identities, 'pending');
      await fleet.identities.retry();
      assert.deepEqual(taken, []);
      isFull = false;
      await fleet.identities.retry();
      await fleet.identities.retry();
      assert.deepEqual(taken, [[node]]);
    },
    async (nodes) => {
      if (isFull) throw new Error('ENOSPC: no space left on device');
      taken.push(nodes);
    },
  );
});
