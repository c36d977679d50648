import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { CaStatusAnswer } from '../../controller/api/api-types.js';
import type { CommandResult } from '../lab/command.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { startEcho, SteadyTraffic } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts, agentArgs: ['--resync-interval', '1s'] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

function rotate(...args: readonly string[]): Promise<CommandResult> {
  const { node, stateDir } = mesh.controller;
  return node.exec([...programs.controller, 'ca', 'rotate', ...args, '--state-dir', stateDir], { timeoutMs: 30_000 });
}

/** Runs a step while the controller is stopped, which it must be, and starts the controller again. */
async function step(...args: readonly string[]): Promise<CommandResult> {
  await mesh.controller.stop();
  const result = await rotate(...args);
  await mesh.controller.start();
  return result;
}

async function caStatus(): Promise<CaStatusAnswer> {
  return (await mesh.controller.culvertJson(['ca', 'status'])) as CaStatusAnswer;
}

function confirmed(what: string): Promise<CaStatusAnswer> {
  return waitUntil(
    what,
    async () => {
      const status = await caStatus();
      const isReported = status.agents.length === 2 && status.agents.every(({ trusts }) => trusts !== null);
      return isReported && status.rotation.unconfirmed.length === 0 ? status : undefined;
    },
    60_000,
  );
}

test(
  'a rotation waits for every agent at each step, and no connection fails throughout',
  { timeout: patientMs(240_000) },
  async () => {
    const [client, server] = [mesh.lab.workload('client'), mesh.lab.workload('server')];
    const echo = await startEcho(server);
    await using traffic = new SteadyTraffic({
      from: client,
      target: { ip: server.ipv4, port: echo.port },
      pauseMs: 50,
    });
    await confirmed('both agents report what they trust');

    await mesh.controller.stop();
    assert.equal((await rotate('prepare')).code, 0);
    const early = await rotate('activate');
    assert.notEqual(early.code, 0);
    assert.match(early.stderr, /too early: 2 nodes have not confirmed that it trusts the new root/);
    assert.match(early.stderr, /node1: does not trust the new root \(as of 20[\s\S]*node2: /);
    await mesh.controller.start();

    const prepared = await confirmed('both agents trust the next root');
    assert.deepEqual(
      [prepared.rotation.nextStep, prepared.roots.map(({ role }) => role)],
      ['activate', ['in use', 'next']],
    );
    const shown = await mesh.controller.culvert(['ca', 'status']);
    assert.match(shown.stdout, /node1 +in use, next +in use/);
    assert.match(shown.stdout, /stop the controller and run culvert-controller ca rotate activate/);

    await mesh.controller.stop();
    assert.equal((await rotate('activate')).code, 0);
    const tooEarly = await rotate('finish');
    assert.notEqual(tooEarly.code, 0);
    assert.match(tooEarly.stderr, /node1: still has certificates under another root/);
    await mesh.controller.start();

    const active = await confirmed('both agents prove themselves with the new root');
    assert.equal(active.rotation.nextStep, 'finish');
    for (const { proves } of active.agents) assert.deepEqual(proves, [active.issuing.root]);
    assert.equal((await step('finish')).code, 0);
    const finished = await waitUntil(
      'no agent trusts the old root any more',
      async () => {
        const status = await caStatus();
        return status.agents.every(({ trusts }) => trusts?.length === 1) ? status : undefined;
      },
      60_000,
    );
    assert.deepEqual([finished.rotation.nextStep, finished.roots.length], [null, 1]);
    const hasEnough = (): true | undefined => (traffic.result.attempts > 50 ? true : undefined);
    await waitUntil('enough connections', hasEnough, 60_000);
    assert.deepEqual((await traffic.stop()).failures, []);
  },
);

test(
  'an agent that a forced step has cut off names TLS as the cause, fetches the new root and is back by itself',
  { timeout: patientMs(180_000) },
  async () => {
    const agent = mesh.agent('node1');
    await mesh.controller.stop();
    assert.equal((await rotate('prepare')).code, 0);
    assert.equal((await rotate('activate', '--force')).code, 0);
    await mesh.controller.start();
    const back = await confirmed('both agents are back and prove themselves with the new root');
    for (const { proves } of back.agents) assert.deepEqual(proves, [back.issuing.root]);
    const problems = loggedIn(agent.logFile, 'NATS operation failed; retrying').map((line) => String(line['problem']));
    assert.ok(
      problems.some((problem) => /TLS: .*certificate.*TLS refused the certificate of nats-server/.test(problem)),
      problems.join('\n'),
    );
    assert.equal(loggedIn(agent.logFile, 'fetched new roots from the controller').length > 0, true);
    await agent.waitReady();
  },
);
