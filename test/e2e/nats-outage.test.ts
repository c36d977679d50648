import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { waitUntil } from '../lab/wait-until.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { ask, HeldConnection, SteadyTraffic } from '../support/mesh/echo-traffic.js';
import { waitForLog } from '../support/mesh/log-lines.js';
import { segmentationRule } from '../support/mesh/rule-world.js';
import { patientMs } from '../lab/patience.js';
import { idleMsOf } from '../support/machine-factor.js';

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

function natsPid(): number {
  return Number(readFileSync(path.join(mesh.controller.stateDir, 'nats', 'nats-server.pid'), 'utf8'));
}

async function connectedAgents(): Promise<number> {
  const values = await Promise.all(mesh.agents.map((agent) => agent.metric('culvert_nats_connected')));
  return values.reduce((sum, value) => sum + value, 0);
}

test(
  'a killed NATS is started again, costs no connection, and the next rule is in force in seconds',
  { timeout: patientMs(60_000) },
  async () => {
    const { client } = mesh;
    const target = mesh.toServer;
    const held = await HeldConnection.open(client, target);
    await using traffic = new SteadyTraffic({ from: client, target });
    const killed = natsPid();
    process.kill(killed, 'SIGKILL');
    await waitForLog(mesh.controller.logFile, 'nats-server died; restarting it');
    await held.exchange();
    await waitUntil(
      'both agents are connected again',
      async () => ((await connectedAgents()) === 2 ? true : undefined),
      20_000,
    );
    assert.notEqual(natsPid(), killed);

    const tookMs = await idleMsOf(() => mesh.apply(rule('deny')));
    assert.ok(tookMs < 5000, `the rule took ${tookMs} ms`);
    assert.equal(await ask(mesh.lab.workload('neighbour'), target), 'ECONNRESET');
    await held.exchange();
    const { attempts, failures } = await traffic.stop();
    assert.deepEqual(failures, [], `of ${attempts} connections`);
    assert.equal(await held.close(), 'end');
  },
);

test(
  'a NATS that is frozen for 8 s costs no connection, and a rule applied meanwhile is refused',
  { timeout: patientMs(60_000) },
  async () => {
    const { client } = mesh;
    const target = mesh.toServer;
    const held = await HeldConnection.open(client, target);
    await using traffic = new SteadyTraffic({ from: client, target });
    const neighbour = mesh.lab.workload('neighbour');
    const pid = natsPid();
    process.kill(pid, 'SIGSTOP');
    try {
      const applied = mesh.controller.culvert(['apply', '-f', '-'], rule('allow'));
      await pauseOf(8000);
      await held.exchange();
      assert.equal(await ask(neighbour, target), 'ECONNRESET', 'the rules of before are in force');
      const { code, stderr } = await applied;
      assert.equal(code, 1);
      assert.match(stderr, /nothing was changed.*try again when NATS answers.*\[STORE_UNAVAILABLE\]/);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await waitUntil(
      'both agents are connected',
      async () => ((await connectedAgents()) === 2 ? true : undefined),
      20_000,
    );
    assert.equal(natsPid(), pid, 'a freeze is no death');
    assert.equal(await ask(neighbour, target), 'ECONNRESET', 'what was refused does not come in force later');
    await mesh.apply(rule('allow'));
    assert.equal(await ask(neighbour, target), 'ok');
    const { attempts, failures } = await traffic.stop();
    assert.deepEqual(failures, [], `of ${attempts} connections`);
    await held.exchange();
    assert.equal(await held.close(), 'end');
  },
);

/** For how long the freeze lasts: no event tells of it. */
function pauseOf(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
