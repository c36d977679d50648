import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { StatusAnswer } from '../../controller/api/api-types.js';
import { patientMs } from '../lab/patience.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { ask, HeldConnection, SteadyTraffic } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';

let mesh: EchoMesh;

before(async () => {
  mesh = await EchoMesh.start({ agentArgs: ['--drain-timeout', '12s'] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** New connections in both directions, and probes of the agent's health, while `change` happens. */
async function failuresDuring(change: () => Promise<void>): Promise<readonly string[]> {
  const node1 = mesh.agent('node1').node;
  await using out = new SteadyTraffic({ from: mesh.client, target: mesh.toServer, lanes: 4, pauseMs: 10 });
  await using back = new SteadyTraffic({ from: mesh.server, target: mesh.toClient, lanes: 2, pauseMs: 10 });
  const startedAtMs = Date.now();
  let probes = 0;
  const refusedProbes: string[] = [];
  const stopProbing = new AbortController();
  const probing = (async () => {
    while (!stopProbing.signal.aborted) {
      const askedAt = new Date().toISOString();
      const answer = await ask(node1, { ip: '127.0.0.1', port: 15021 }, 'GET /healthz HTTP/1.0\r\n\r\n');
      probes++;
      // It answers, but not with what was asked: `ask` wants an echo.
      if (answer !== 'end' && answer !== 'close') refusedProbes.push(`${askedAt} health: ${answer}`);
    }
  })();
  await waitUntil('traffic flows', () => (out.result.attempts > 40 && back.result.attempts > 20 ? true : undefined));
  await change();
  const before = out.result.attempts;
  await waitUntil('traffic goes on', () => (out.result.attempts > before + 100 ? true : undefined), 30_000);
  stopProbing.abort();
  await probing;
  assert.ok(probes > 5, 'health was asked');
  const lanes = { out: await out.stop(), back: await back.stop() };
  const failures = Object.entries(lanes).flatMap(([lane, { failures: all }]) => all.map((how) => `${how} (${lane})`));
  if (failures.length === 0) return refusedProbes;
  return [...failures, ...refusedProbes, ...refusalsSince(startedAtMs)];
}

/** What the agents say about the connections that failed. */
function refusalsSince(startedAtMs: number): readonly string[] {
  return mesh.agents.flatMap((agent) =>
    agent
      .records()
      .filter(({ reason, startedAt }) => reason !== 'OK' && Date.parse(startedAt) >= startedAtMs)
      .map(
        ({ startedAt, direction, reason, detail }) => `${startedAt} ${agent.name}: ${direction} ${reason} ${detail}`,
      ),
  );
}

test(
  'an agent that is started next to the running one takes over, and no new connection is refused',
  { timeout: patientMs(90_000) },
  async () => {
    const node1 = mesh.agent('node1');
    const old = node1.process;
    const held = await HeldConnection.open(mesh.client, mesh.toServer);
    const failures = await failuresDuring(async () => {
      await node1.start();
      await waitUntil('it took over', () => loggedIn(node1.logFile, 'this agent took over')[0], 30_000);
      // Its open connections are still with the old one.
      await held.exchange();
      await node1.waitReady();
      assert.deepEqual(await old.exited, { code: 0, signal: null });
    });
    assert.deepEqual(failures, []);
    assert.equal(await held.ending(), 'ECONNRESET', 'what is open when the drain ends is cut');
    assert.equal(await node1.metric('culvert_workloads', { state: 'captured' }), 2);
  },
);

test(
  'a second agent that is not asked to take over does not start, and says how to replace the first',
  { timeout: patientMs(60_000) },
  async () => {
    const node1 = mesh.agent('node1');
    const running = node1.process;
    const flags = ['--node', 'node1', '--state-dir', node1.stateDir];
    for (const command of [['run'], ['supervise', '--']]) {
      const { code, stderr } = await node1.node.exec([...programs.agent, ...command, ...flags]);
      assert.equal(code, 1, stderr);
      assert.match(stderr, new RegExp(`already \\(pid ${running.pid}, .*--take-over.*\\[AGENT_RUNS\\]`));
    }
    assert.equal(running.hasExited, false);
    await node1.waitReady();
  },
);

test('an agent that is stopping is succeeded without being asked', { timeout: patientMs(90_000) }, async () => {
  const node1 = mesh.agent('node1');
  const stopping = node1.process;
  // It keeps the drain going.
  const held = await HeldConnection.open(mesh.client, mesh.toServer);
  process.kill(stopping.pid, 'SIGTERM');
  await waitUntil('it stops', () => loggedIn(node1.logFile, 'agent stopping').at(-1), 30_000);
  const next = await node1.node.spawn([...programs.agent, 'run', '--node', 'node1', '--state-dir', node1.stateDir]);
  await next.waitForLine(/"this agent took over/);
  await held.exchange();
  assert.deepEqual(await stopping.exited, { code: 0, signal: null });
  await node1.start();
  assert.deepEqual(await next.exited, { code: 0, signal: null });
  await node1.waitReady();
});

test(
  'one that stays when it is replaced is ready while it serves, and ends to be started again when none serves',
  { timeout: patientMs(120_000) },
  async () => {
    const node1 = mesh.agent('node1');
    const [first, second] = ['ready-1', 'ready-2'].map((name) => path.join(node1.stateDir, name));
    assert.ok(first !== undefined && second !== undefined);
    await node1.start(['--when-replaced', 'stay', '--ready-file', first]);
    await waitUntil('the first is ready', () => existsSync(first) || undefined, 30_000);
    const staying = node1.process;
    await node1.start(['--ready-file', second]);
    await waitUntil('the second is ready, and the first no longer', () => {
      return (existsSync(second) && !existsSync(first)) || undefined;
    });
    await waitUntil('the first stays', () => loggedIn(node1.logFile, 'staying until this agent is stopped')[0], 60_000);
    assert.equal(staying.hasExited, false);
    const { pid, exited } = node1.process;
    process.kill(pid, 'SIGKILL');
    await exited;
    assert.deepEqual(await staying.exited, { code: 0, signal: null });
    await node1.start();
    await node1.waitReady();
  },
);

test('a start that fails leaves the running agent as it was', { timeout: patientMs(60_000) }, async () => {
  const node1 = mesh.agent('node1');
  const running = node1.process;
  await using traffic = new SteadyTraffic({ from: mesh.client, target: mesh.toServer, lanes: 2 });
  const flags = [
    'run',
    '--node',
    'node1',
    '--state-dir',
    node1.stateDir,
    '--take-over',
    '--admin-address',
    '192.0.2.1:15000',
  ];
  const failed = await node1.node.exec([...programs.agent, ...flags]);
  assert.notEqual(failed.code, 0);
  await waitUntil('traffic goes on', () => (traffic.result.attempts > 30 ? true : undefined));
  assert.deepEqual((await traffic.stop()).failures, []);
  assert.equal(running.hasExited, false);
  await node1.waitReady();
});

test('an agent that is stopped says so at once', { timeout: patientMs(60_000) }, async () => {
  const node1 = mesh.agent('node1');
  await waitUntil('it is ready', async () => ((await stateOf('node1')) === 'ready' ? true : undefined));
  await node1.stop();
  // Without its last heartbeat it would be `ready` for 20 s, and then `stale`.
  await waitUntil('it is stopped', async () => ((await stateOf('node1')) === 'stopped' ? true : undefined));
});

async function stateOf(node: string): Promise<string | undefined> {
  const { agents } = (await mesh.controller.culvertJson(['status'])) as StatusAnswer;
  return agents.find((agent) => agent.node === node)?.state;
}
