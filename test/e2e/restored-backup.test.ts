import assert from 'node:assert/strict';
import { cp, rm } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import type { AdvanceAnswer, RolloutAnswer, StatusAnswer } from '../../controller/api/api-types.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { ask } from '../support/mesh/echo-traffic.js';
import { segmentationRule } from '../support/mesh/rule-world.js';

let mesh: EchoMesh;

before(async () => {
  mesh = await EchoMesh.start({ controllerArgs: ['--agent-stale-after', '60s'] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const extra = (name: string, address: string): string => `
apiVersion: culvert.dev/v1
kind: Workload
metadata: { namespace: shop, name: ${name} }
spec: { serviceAccount: ${name}, addresses: [${address}] }
`;
const denial = (name: string, from: string): string =>
  segmentationRule(name, `{ action: deny, from: [{ workload: shop/${from} }], to: [{ workload: shop/server }] }`);

async function status(): Promise<StatusAnswer> {
  return (await mesh.controller.culvertJson(['status'])) as StatusAnswer;
}

async function waitForStates(what: string, wanted: string): Promise<StatusAnswer> {
  return await waitUntil(
    what,
    async () => {
      const answer = await status();
      return answer.agents.every(({ state }) => state === wanted) ? answer : undefined;
    },
    30_000,
  );
}

test(
  'after an older backup was restored every command says so, and culvert advance makes the restored state count',
  { timeout: patientMs(120_000) },
  async () => {
    const { controller, client, toServer } = mesh;
    const backup = `${controller.stateDir}.backup`;
    await mesh.apply(denial('no-neighbour', 'neighbour') + '---' + extra('kept', '198.18.99.1'));
    await controller.stop();
    await cp(controller.stateDir, backup, { recursive: true, preserveTimestamps: true });
    await controller.start();
    // What the backup does not have: another version of an entry, one more, and later rules.
    await mesh.apply(extra('kept', '198.18.99.2'));
    await mesh.apply(extra('late', '198.18.99.3'));
    const lost = await mesh.apply(denial('no-spare', 'spare'));
    assert.equal(await ask(mesh.lab.workload('spare'), toServer), 'ECONNRESET');
    await controller.culvertJson(['apply', '-f', '-', '--wait', '30s'], extra('later', '198.18.99.4'));
    const before = await status();
    await controller.stop();
    await rm(controller.stateDir, { recursive: true });
    await cp(backup, controller.stateDir, { recursive: true, preserveTimestamps: true });
    await controller.start();

    const restored = await waitForStates('both agents are seen to be ahead', 'ahead');
    assert.ok(restored.revision < lost && restored.inventorySequence < before.inventorySequence);
    const check = await controller.culvert(['check']);
    assert.notEqual(check.code, 0);
    assert.match(check.stdout, /node1 .*culvert advance/s);
    await waitUntil('agents name what they refuse', async () =>
      (await status()).agents.every(({ heartbeat }) =>
        /an older backup of the controller may have been restored/.test(
          `${heartbeat?.registryAlarm} ${heartbeat?.rulesAlarm}`,
        ),
      )
        ? true
        : undefined,
    );
    const { readiness } = (await mesh.agent('node1').admin('/dump')) as { readiness: { degraded: { name: string }[] } };
    assert.ok(readiness.degraded.some(({ name }) => name === 'registry' || name === 'rules'));

    // The revision passes that of the agents, and yet nothing is enforced: nothing may claim that it is.
    for (let at = restored.revision; at <= lost; at++) {
      await controller.culvertJson(['apply', '-f', '-'], denial(`passing-${at}`, 'neighbour'));
    }
    await controller.culvertJson(['apply', '-f', '-'], denial('no-client', 'client'));
    const rollout = (await controller.api('/v1/rollout')) as RolloutAnswer;
    assert.deepEqual([rollout.isComplete, ...rollout.agents.map(({ state }) => state)], [false, 'alarm', 'alarm']);
    assert.equal((await controller.culvert(['rollout', 'status'])).code, 1);

    const planned = (await controller.culvertJson(['advance', '--dry-run'])) as AdvanceAnswer;
    assert.deepEqual(
      planned.ahead.map(({ node }) => node),
      ['node1', 'node2'],
    );
    const tooFar = await controller.culvert(['advance', '--sequence', String(2 ** 53 - 1)]);
    assert.notEqual(tooFar.code, 0, 'no number that the mesh could not count on from');
    const advanced = await controller.culvert(['advance', '--wait', '30s']);
    assert.equal(advanced.code, 0, advanced.stderr);
    assert.match(advanced.stdout, /enforced by 2 agents/);
    await waitForStates('both agents follow again', 'ready');
    assert.equal(await ask(client, toServer), 'ECONNRESET', 'the rules of the restored controller are enforced');
    assert.equal(await ask(mesh.lab.workload('spare'), toServer), 'ok', 'and those that it does not have are gone');
    const changed = await controller.culvert(['apply', '-f', '-', '--wait', '30s'], extra('kept', '198.18.99.5'));
    assert.equal(changed.code, 0, changed.stderr);
    const settled = await status();
    assert.deepEqual(
      settled.agents.map(({ heartbeat }) => [heartbeat?.registryAlarm, heartbeat?.rulesAlarm]),
      [
        [undefined, undefined],
        [undefined, undefined],
      ],
    );
    const { requests } = (await controller.api('/v1/audit-log?action=advance')) as { requests: { result: string }[] };
    assert.ok(requests.some(({ result }) => result === 'done'));

    // Neither a restart nor the store changes that.
    await controller.stop();
    await controller.start();
    const after = await waitUntil(
      'both agents said to the controller that started again that all is well',
      async () => {
        const { agents } = await status();
        return agents.every(({ state, heartbeat }) => state === 'ready' && heartbeat?.registryAlarm === undefined)
          ? { agents }
          : undefined;
      },
    );
    const { stdout, stderr } = await controller.culvert(['advance']);
    assert.match(stderr, /no agent holds more/, stdout + JSON.stringify(after.agents));
  },
);
