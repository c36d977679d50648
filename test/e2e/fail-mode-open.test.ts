import assert from 'node:assert/strict';
import { renameSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, startEcho } from '../support/mesh/echo-traffic.js';
import { waitForLog } from '../support/mesh/log-lines.js';
import { netnsFingerprint } from '../support/mesh/netns-fingerprint.js';
import { breakStateDirectory, childPid, deaths } from '../support/mesh/supervised-child.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

const secret = 'culvert-e2e-secret-of-the-fail-mode';

test(
  'with fail mode open traffic passes directly while the agent is away, and is captured when it is back',
  { timeout: patientMs(90_000) },
  async () => {
    const agentArgs = ['--fail-mode', 'open'];
    await using mesh = await startMesh({ topology: twoHosts, agentCommand: 'supervise', agentArgs });
    const [node1, node2] = [mesh.agent('node1'), mesh.agent('node2')];
    const [client, neighbour] = [mesh.lab.workload('client'), mesh.lab.workload('neighbour')];
    const server = mesh.lab.workload('server');
    const [far, near] = [await startEcho(server), await startEcho(neighbour)];
    const toServer = { ip: server.ipv4, port: far.port };
    const toNeighbour = { ip: neighbour.ipv4, port: near.port };
    assert.deepEqual([await ask(client, toServer, secret), await ask(client, toNeighbour)], ['ok', 'ok']);
    const captured = await netnsFingerprint(client);

    await using wire = await mesh.lab.capture({ at: node1.node, filter: 'tcp' });
    const mend = breakStateDirectory(node1);
    process.kill(childPid(node1), 'SIGKILL');
    const opening = await waitForLog(node1.logFile, 'FAIL OPEN');
    assert.deepEqual([opening.level, opening['problems']], ['error', []]);
    assert.deepEqual((opening['namespaces'] as string[]).toSorted(), ['shop/client', 'shop/neighbour']);
    assert.equal(await ask(client, toNeighbour), 'ok', 'directly, on the same host');
    assert.equal(await ask(mesh.lab.host('outside'), toNeighbour), 'ok', 'directly, from outside the mesh');
    assert.equal(wire.contains(secret), false);
    assert.equal(await ask(client, toServer, secret), 'ok', 'directly, to the other host in a PERMISSIVE mesh');
    await waitUntil('it was readable', () => (wire.contains(secret) ? true : undefined));
    const plain = await node2.waitForRecord(
      'the direct one',
      (line) => line.path === 'plaintext' && line.direction === 'inbound',
    );
    assert.deepEqual([plain.reason, plain.sourceIdentity], ['OK', undefined]);

    mend();
    await node1.waitReady(30_000);
    await waitUntil(
      'the same capture',
      async () => ((await netnsFingerprint(client)) === captured ? true : undefined),
      20_000,
    );
    assert.equal(await ask(client, toServer), 'ok');
    const again = await node1.waitForRecord(
      'captured again',
      (line) =>
        line.path === 'hbone' &&
        line.direction === 'outbound' &&
        Date.parse(line.startedAt) > Date.parse(String(opening['time'])),
    );
    assert.equal(again.reason, 'OK');
    assert.deepEqual(await node1.stop('SIGTERM'), { code: 0, signal: null });
    assert.equal(await ask(client, toServer), 'ECONNREFUSED', 'a stop that was asked for is no failure');
  },
);

/** The end of its supervisor may have ended it. */
function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

test(
  'with fail mode open a supervisor that finds the capture of an earlier run, and whose agent cannot serve, opens too',
  { timeout: patientMs(90_000) },
  async () => {
    const agentArgs = ['--fail-mode', 'open'];
    await using mesh = await startMesh({ topology: twoHosts, agentCommand: 'supervise', agentArgs });
    const node1 = mesh.agent('node1');
    const [client, neighbour] = [mesh.lab.workload('client'), mesh.lab.workload('neighbour')];
    const near = await startEcho(neighbour);
    const toNeighbour = { ip: neighbour.ipv4, port: near.port };
    const captured = await netnsFingerprint(client);
    // As when the machine runs out of memory: both die at once, and systemd starts the supervisor again.
    const child = childPid(node1);
    const supervisor = node1.stop('SIGKILL');
    killIfThere(child);
    await supervisor;
    assert.equal(await ask(client, toNeighbour), 'ECONNREFUSED');
    await mesh.controller.stop('SIGKILL');
    // It runs and waits for rules that never arrive.
    const state = path.join(node1.stateDir, 'state.json');
    renameSync(state, `${state}.kept`);
    await node1.start();
    await waitForLog(node1.logFile, 'FAIL OPEN', { deadlineMs: 20_000 });
    assert.equal(deaths(node1), 0);
    assert.equal(await ask(client, toNeighbour), 'ok', 'directly');
    await mesh.controller.start();
    await node1.waitReady(30_000);
    await waitUntil(
      'the same capture',
      async () => ((await netnsFingerprint(client)) === captured ? true : undefined),
      20_000,
    );
    assert.equal(await ask(client, toNeighbour), 'ok');
  },
);
