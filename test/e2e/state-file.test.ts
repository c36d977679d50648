import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { runCommand } from '../lab/command.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { waitUntil } from '../lab/wait-until.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { ask } from '../support/mesh/echo-traffic.js';
import { loggedIn, waitForLog } from '../support/mesh/log-lines.js';
import { segmentationRule } from '../support/mesh/rule-world.js';
import { patientMs } from '../lab/patience.js';

let mesh: EchoMesh;

before(async () => {
  mesh = await EchoMesh.start();
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const rule = (action: 'allow' | 'deny'): string =>
  segmentationRule(
    'neighbours',
    `{ tier: team, priority: 10, action: ${action}, from: [{ serviceAccount: shop/neighbour }], reason: tested here }`,
  );

type Ready = { readonly degraded: readonly { readonly name: string; readonly detail: string }[] };

async function degraded(agent: MeshAgent): Promise<Ready['degraded']> {
  return ((await agent.admin('/dump')) as { readiness: Ready }).readiness.degraded;
}

/** Runs a command where the agent sees its file system: mounts made there are the agent's alone, and end with it. */
async function inMountsOf(agent: MeshAgent, ...argv: readonly string[]): Promise<void> {
  const { code, stderr } = await runCommand(['nsenter', `--mount=/proc/${agent.process.pid}/ns/mnt`, '--', ...argv]);
  assert.equal(code, 0, stderr);
}

for (const [what, options, problem] of [
  ['full', 'size=4k', /ENOSPC|no space/i],
  ['read-only', 'ro', /EROFS|read-only/i],
] as const) {
  test(
    `an agent whose state directory is ${what} serves on, takes new rules and says so until it is mended`,
    { timeout: patientMs(60_000) },
    async () => {
      const node1 = mesh.agent('node1');
      const neighbour = mesh.lab.workload('neighbour');
      const failures = await node1.metric('culvert_state_write_failures_total');
      const [complaints, mended] = [
        'could not be written to disk; the agent continues',
        'the last good state is on disk again',
      ].map((message) => loggedIn(node1.logFile, message).length);
      await inMountsOf(node1, 'mount', '-t', 'tmpfs', '-o', options, 'tmpfs', node1.stateDir);
      try {
        await mesh.apply(rule('deny'));
        assert.equal(await ask(neighbour, mesh.toServer), 'ECONNRESET', 'the new rule is in force');
        const line = await waitForLog(node1.logFile, 'could not be written to disk; the agent continues', {
          seen: complaints ?? 0,
        });
        assert.equal(line.level, 'error');
        assert.match(JSON.stringify(line['err']), problem);
        assert.ok((await node1.metric('culvert_state_write_failures_total')) > failures);
        const state = (await degraded(node1)).find(({ name }) => name === 'state');
        assert.match(state?.detail ?? '', problem);
        await node1.waitReady(1000);
        assert.equal(await ask(mesh.client, mesh.toServer), 'ok');
      } finally {
        await inMountsOf(node1, 'umount', node1.stateDir);
      }
      await mesh.apply(rule('allow'));
      await waitForLog(node1.logFile, 'the last good state is on disk again', {
        seen: mended ?? 0,
        deadlineMs: 15_000,
      });
      assert.equal(
        (await degraded(node1)).some(({ name }) => name === 'state'),
        false,
      );
      assert.equal(await ask(neighbour, mesh.toServer), 'ok');
    },
  );
}

test(
  'a damaged state file is moved aside and named, nothing passes until fresh rules arrive, and then all does',
  { timeout: patientMs(90_000) },
  async () => {
    const node1 = mesh.agent('node1');
    const { client } = mesh;
    await node1.waitForSavedState(await node1.metric('culvert_enforced_revision'));
    await mesh.controller.stop('SIGKILL');
    await node1.stop('SIGKILL');
    const file = path.join(node1.stateDir, 'state.json');
    const good = readFileSync(file);
    writeFileSync(file, good.subarray(0, good.length >> 1));
    await node1.start();
    const line = await waitForLog(node1.logFile, 'a damaged state file was moved aside', { deadlineMs: 20_000 });
    assert.deepEqual([line.level, line['file']], ['error', file]);
    const aside = readdirSync(node1.stateDir).find((name) => name.startsWith('state.json.corrupt-'));
    assert.equal(line['movedTo'], path.join(node1.stateDir, aside ?? 'none'));
    assert.deepEqual(readFileSync(path.join(node1.stateDir, aside ?? 'none')), good.subarray(0, good.length >> 1));
    await waitUntil('it answers that it waits', async () => {
      const { readiness } = (await node1.admin('/dump')) as { readiness: { pending: { name: string }[] } };
      const names = readiness.pending.map(({ name }) => name);
      return ['nats', 'rules', 'registry'].every((name) => names.includes(name)) ? true : undefined;
    });
    assert.equal(await ask(client, mesh.toServer), 'ECONNREFUSED', 'closed');
    await mesh.controller.start();
    await node1.waitReady(30_000);
    assert.equal(await ask(client, mesh.toServer), 'ok');
    await waitUntil('a fresh state file', () =>
      readdirSync(node1.stateDir).includes('state.json') ? true : undefined,
    );
  },
);
