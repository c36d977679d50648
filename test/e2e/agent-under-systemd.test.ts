import assert from 'node:assert/strict';
import { closeSync, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { copySockets } from '../../agent/control/succession/predecessor.js';
import { listenerOf } from '../../agent/native/passed-sockets.js';
import { netnsInode } from '../../agent/native/netns.js';
import { labHttp } from '../lab/lab-http.js';
import type { LabProcess } from '../lab/lab-process.js';
import { patientMs } from '../lab/patience.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { HeldConnection, SteadyTraffic } from '../support/mesh/echo-traffic.js';

let mesh: EchoMesh;

before(async () => {
  mesh = await EchoMesh.start();
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** Starts the unit's program as systemd does: with its descriptor store, and the socket for notifications. */
async function startUnit(fds: readonly number[], notifySocket: string): Promise<LabProcess> {
  const node1 = mesh.agent('node1');
  const flags = ['--node', 'node1', '--state-dir', node1.stateDir, '--drain-timeout', '12s', '--take-over'];
  const argv = [...programs.agent, 'supervise', '--', ...flags];
  // A process cannot know its id before it runs.
  return await node1.node.spawn(['sh', '-c', 'LISTEN_PID=$$ exec "$@"', 'sh', ...argv], {
    env: { LISTEN_FDS: String(fds.length), NOTIFY_SOCKET: notifySocket },
    fds,
    logFile: node1.logFile,
  });
}

async function waitReady(): Promise<void> {
  await waitUntil(
    'the agent is ready',
    async () => {
      const request = { from: mesh.lab.host('node1'), ip: '127.0.0.1', port: 15021, path: '/readyz' };
      return (await labHttp(request)).status === 200 ? true : undefined;
    },
    45_000,
  );
}

/** What the agent has told the service manager to keep. */
function stored(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

test(
  'a restart of the unit refuses no new connection: the service manager keeps the listening sockets',
  { timeout: patientMs(120_000) },
  async () => {
    const node1 = mesh.agent('node1');
    const notifySocket = path.join(mesh.lab.tempDir, 'notify');
    const told = path.join(mesh.lab.tempDir, 'notified');
    await using _manager = await node1.node.spawn([
      'socat',
      '-u',
      `UNIX-RECV:${notifySocket}`,
      `OPEN:${told},creat,append`,
    ]);
    await waitUntil('the service manager listens', () => (existsSync(notifySocket) ? true : undefined));
    const byHand = node1.process;
    const first = await startUnit([], notifySocket);
    assert.deepEqual(await byHand.exited, { code: 0, signal: null }, 'the unit took over');
    await waitReady();
    const { client } = mesh;
    const inode = netnsInode(client.netnsPath);
    const keeps = `FDSTORE=1\nFDNAME=culvert-netns-${inode}`;
    await waitUntil('the sockets are stored', () => (stored(told).includes(keeps) ? true : undefined), 20_000);

    const kept = copySockets(node1.stateDir) ?? [];
    assert.ok(
      kept.some((fd) => listenerOf(fd)?.netnsInode === inode),
      'those of the workload',
    );
    // It keeps the drain going.
    await HeldConnection.open(client, mesh.toServer);
    await using traffic = new SteadyTraffic({ from: client, target: mesh.toServer, lanes: 4, pauseMs: 10 });
    await waitUntil('traffic flows', () => (traffic.result.attempts > 40 ? true : undefined));
    const stopped = first.stop('SIGTERM', 60_000);
    const before = traffic.result.attempts;
    await waitUntil('it serves on during the drain', () => (traffic.result.attempts > before + 20 ? true : undefined));
    assert.deepEqual(await stopped, { code: 0, signal: null });
    const second = await startUnit(kept, notifySocket);
    for (const fd of kept) closeSync(fd);
    await waitReady();
    const after = traffic.result.attempts;
    await waitUntil('traffic goes on', () => (traffic.result.attempts > after + 100 ? true : undefined), 30_000);
    assert.deepEqual((await traffic.stop()).failures, []);
    assert.equal(second.hasExited, false);
    await second.stop('SIGTERM', 60_000);
  },
);
