import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import type { LabNode } from '../../lab/lab-node.js';
import { startMesh } from '../../lab/mesh.js';
import { patientMs } from '../../lab/patience.js';
import { waitUntil } from '../../lab/wait-until.js';
import { shownCommands } from '../../support/docs/shown-commands.js';

/** A stranger who wants every connection of the controller's NATS. */
const wanted = 200;
const port = 4222;

function documentedRules(): string[][] {
  const shown = shownCommands(readFileSync('deploy/docs/operations.md', 'utf8'));
  return shown.filter((command) => command.includes('--connlimit-above')).map((command) => command.split(' '));
}

/** Asks for this many connections at once. Those that were opened, and stay open as long as the server lets them. */
async function take(from: LabNode, ip: LabNode['ipv4']): Promise<Socket[]> {
  const asked = await Promise.allSettled(Array.from({ length: wanted }, () => from.connect({ ip, port })));
  return asked.flatMap((each) => {
    if (each.status === 'rejected') return [];
    each.value.on('error', () => undefined).resume();
    return [each.value];
  });
}

test(
  'with the documented rules a stranger has 32 connections of NATS, and an agent connects beyond them',
  { timeout: patientMs(120_000) },
  async () => {
    await using mesh = await startMesh({
      topology: {
        hosts: [{ name: 'node1', workloads: [{ name: 'client', namespace: 'shop', serviceAccount: 'client' }] }],
        externalHosts: ['stranger'],
      },
    });
    const { lab, controller } = mesh;
    const stranger = lab.host('stranger');
    const before = await take(stranger, controller.node.ipv4);
    assert.equal(before.length, wanted, 'nats-server does not count by source');
    for (const socket of before) socket.destroy();

    const rules = documentedRules();
    assert.deepEqual(
      rules.map(([program]) => program),
      ['iptables', 'ip6tables'],
    );
    for (const rule of rules) await controller.node.check(rule);
    // The kernel forgets the connections of before once both sides have closed them.
    const held = await waitUntil('the stranger has connections again', async () => {
      const taken = await take(stranger, controller.node.ipv4);
      return taken.length > 0 ? taken : undefined;
    });
    assert.ok(held.length <= 32, `${held.length} connections`);

    const agent = mesh.agent('node1');
    await agent.stop('SIGKILL');
    await agent.start();
    await agent.waitReady();
    assert.equal(await agent.metric('culvert_nats_connected'), 1);
    const again = await take(stranger, controller.node.ipv4);
    assert.ok(again.length <= 32, `${again.length} connections`);
  },
);
