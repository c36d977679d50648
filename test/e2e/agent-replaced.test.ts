import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { agentSocketPath } from '../../agent/control/succession/agent-socket.js';
import { listenerOf, takeSockets } from '../../agent/native/passed-sockets.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { SteadyTraffic } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';
import { breakStateDirectory, childPid } from '../support/mesh/supervised-child.js';

let mesh: EchoMesh;
const directory = mkdtempSync(path.join(tmpdir(), 'culvert-replaced-'));
const config = path.join(directory, 'agent.yaml');

function setEndpoints(host: string): void {
  const text = `metricsAddress: "${host}:15020"\nhealthAddress: "${host}:15021"\n`;
  writeFileSync(config, text, { mode: 0o600 });
}

before(async () => {
  setEndpoints('[::]');
  const agentArgs = ['--drain-timeout', '3s', '--config', config];
  mesh = await EchoMesh.start({ agentCommand: 'supervise', agentArgs });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

const node1 = () => mesh.agent('node1');

function startTraffic(): SteadyTraffic {
  return new SteadyTraffic({ from: mesh.client, target: mesh.toServer, lanes: 4, pauseMs: 10 });
}

async function moreOf(traffic: SteadyTraffic, attempts: number): Promise<void> {
  const before = traffic.result.attempts;
  const hasMore = (): true | undefined => (traffic.result.attempts >= before + attempts ? true : undefined);
  await waitUntil(`${attempts} more connections`, hasMore, 30_000);
}

async function nextChild(old: number): Promise<void> {
  await waitUntil('another agent', () => (childPid(node1()) === old ? undefined : true), 30_000);
  await node1().waitReady();
}

test(
  'SIGHUP replaces the supervised agent, and no new connection is refused',
  { timeout: patientMs(90_000) },
  async () => {
    for (const round of [1, 2]) {
      await using traffic = startTraffic();
      await moreOf(traffic, 40);
      const old = childPid(node1());
      process.kill(node1().process.pid, 'SIGHUP');
      await nextChild(old);
      await moreOf(traffic, 100);
      assert.deepEqual((await traffic.stop()).failures, [], `round ${round}`);
    }
    assert.equal(loggedIn(node1().logFile, 'the agent exited; restarting it').length, 0);
    const lost = 'the last agent on this node ended without reporting connections';
    assert.equal(loggedIn(node1().logFile, lost).length, 0, 'a reload loses no record');
  },
);

test(
  'a successor with other addresses for its endpoints takes over while copies of the old ones listen, and serves them later',
  { timeout: patientMs(90_000) },
  async () => {
    await using traffic = startTraffic();
    await moreOf(traffic, 40);
    // As a supervisor of the version before has them.
    const agentSocket = agentSocketPath(node1().stateDir);
    const { connectionFd, fds } = takeSockets({ path: agentSocket, request: 'succeed', timeoutMs: 10_000 });
    closeSync(connectionFd);
    const own = fds.filter((fd) => [15020, 15021].includes(listenerOf(fd)?.port ?? 0));
    assert.equal(own.length, 2);
    for (const fd of fds) if (!own.includes(fd)) closeSync(fd);
    const old = childPid(node1());
    setEndpoints('127.0.0.1');
    process.kill(node1().process.pid, 'SIGHUP');
    await waitUntil('another agent', () => (childPid(node1()) === old ? undefined : true), 30_000);
    await moreOf(traffic, 100);
    for (const fd of own) closeSync(fd);
    await node1().waitReady();
    await waitUntil('both endpoints', () => {
      const found = loggedIn(node1().logFile, 'the endpoint listens now');
      return found.filter(({ pid }) => pid === childPid(node1())).length === 2 ? true : undefined;
    });
    const { stdout } = await node1().node.exec(['ss', '-Hltn', 'sport', '=', '15021', 'or', 'sport', '=', '15020']);
    assert.match(stdout, /127\.0\.0\.1:15021/);
    assert.doesNotMatch(stdout, /(?:\*|\[::\]):1502/);
    assert.deepEqual((await traffic.stop()).failures, []);
    assert.equal(loggedIn(node1().logFile, 'the agent exited; restarting it').length, 0);
  },
);

test('a successor that cannot start leaves the agent in place', { timeout: patientMs(60_000) }, async () => {
  await using traffic = startTraffic();
  const running = childPid(node1());
  const mend = breakStateDirectory(node1());
  process.kill(node1().process.pid, 'SIGHUP');
  await waitUntil('it gave up', () => loggedIn(node1().logFile, 'did not take over')[0], 30_000);
  mend();
  await moreOf(traffic, 50);
  assert.deepEqual((await traffic.stop()).failures, []);
  assert.equal(childPid(node1()), running);
  await node1().waitReady();
});

test(
  'an agent that is killed costs its open connections; new ones wait for the next agent',
  { timeout: patientMs(90_000) },
  async () => {
    await using traffic = startTraffic();
    await moreOf(traffic, 40);
    const old = childPid(node1());
    process.kill(old, 'SIGKILL');
    await nextChild(old);
    await moreOf(traffic, 100);
    const { failures } = await traffic.stop();
    assert.deepEqual(
      failures.filter((line) => line.includes('ECONNREFUSED')),
      [],
    );
    assert.ok(failures.length <= 8, `what was open or waited with the agent: ${failures.join(', ')}`);
    assert.deepEqual(await node1().stop('SIGTERM'), { code: 0, signal: null });
  },
);
