import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { startMesh } from '../lab/mesh.js';
import { hasHelpers } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, startEcho } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';
import { breakStateDirectory, childPid, deaths, hasEnded, helperPid } from '../support/mesh/supervised-child.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

const secret = 'culvert-e2e-secret-of-the-fail-mode';

test(
  'with fail mode closed nothing passes while the agent stays away, and all does when it is back',
  { timeout: patientMs(90_000) },
  async () => {
    await using mesh = await startMesh({ topology: twoHosts, agentCommand: 'supervise' });
    const node1 = mesh.agent('node1');
    const [client, neighbour] = [mesh.lab.workload('client'), mesh.lab.workload('neighbour')];
    const server = mesh.lab.workload('server');
    const [far, near] = [await startEcho(server), await startEcho(neighbour)];
    const toServer = { ip: server.ipv4, port: far.port };
    const toNeighbour = { ip: neighbour.ipv4, port: near.port };
    assert.deepEqual([await ask(client, toServer, secret), await ask(client, toNeighbour)], ['ok', 'ok']);

    // So that it has sockets ready to dial with, which do not outlive it.
    const many = await Promise.all(Array.from({ length: 30 }, () => ask(client, toServer, secret)));
    assert.deepEqual(new Set(many), new Set(['ok']));
    if (hasHelpers) await loseHelper(node1);
    assert.deepEqual([await ask(client, toServer, secret), await ask(client, toNeighbour)], ['ok', 'ok']);
    const next = hasHelpers ? helperPid(childPid(node1)) : null;

    await using wire = await mesh.lab.capture({ at: node1.node, filter: 'tcp' });
    const mend = breakStateDirectory(node1);
    process.kill(childPid(node1), 'SIGKILL');
    await waitUntil('its helper ends with it', () => (next === null || hasEnded(next) ? true : undefined));
    // Longer than fail mode open would have waited.
    await waitUntil('five starts have failed', () => (deaths(node1) >= 5 ? true : undefined), 45_000);
    for (const attempt of ['first', 'second']) {
      assert.equal(await ask(client, toServer, secret), 'ECONNREFUSED', attempt);
      assert.equal(await ask(client, toNeighbour, secret), 'ECONNREFUSED', attempt);
      assert.equal(await ask(mesh.lab.host('outside'), toNeighbour, secret), 'ECONNREFUSED', attempt);
    }
    mend();
    await node1.waitReady(30_000);
    assert.deepEqual([await ask(client, toServer, secret), await ask(client, toNeighbour)], ['ok', 'ok']);
    assert.equal(loggedIn(node1.logFile, 'FAIL OPEN').length, 0);
    const seen = await wire.stop();
    assert.deepEqual([seen.droppedByKernel, seen.contains(secret)], [0, false]);
    assert.deepEqual(await node1.stop('SIGTERM'), { code: 0, signal: null });
  },
);

/** Kills the helper: the agent ends, and the supervisor starts both again. */
async function loseHelper(node1: MeshAgent): Promise<void> {
  const [agent, helper] = [childPid(node1), helperPid(childPid(node1))];
  process.kill(helper, 'SIGKILL');
  await waitUntil('the agent says that its helper is lost, and ends', () => {
    const said = loggedIn(node1.logFile, 'the agent ends: its rules stay, so nothing passes until the next one serves');
    return said.length === 1 && hasEnded(agent) ? true : undefined;
  });
  await waitUntil('the next one serves', () => (childPid(node1) === agent ? undefined : true));
  await node1.waitReady(30_000);
}
