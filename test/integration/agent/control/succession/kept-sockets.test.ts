import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';
import { AgentSocket, agentSocketPath } from '../../../../../agent/control/succession/agent-socket.js';
import { KeptSockets } from '../../../../../agent/control/succession/kept-sockets.js';
import { acceptedFd } from '../../../../../agent/native/addon.js';
import { createLog } from '../../../../../shared/log.js';
import { waitUntil } from '../../../../lab/wait-until.js';

const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
let stateDir: string;
let server: net.Server;
let kept: KeptSockets;

beforeEach(async () => {
  stateDir = mkdtempSync(path.join(tmpdir(), 'culvert-kept-'));
  server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  kept = new KeptSockets({ stateDir, log, env: {} });
});

afterEach(() => {
  kept.close();
  server.close();
  rmSync(stateDir, { recursive: true });
});

const openSocket = (count: () => number): Promise<AgentSocket> =>
  AgentSocket.open({
    stateDir,
    log,
    sockets: {
      ofWorkloads: () => Array.from({ length: count() }, () => acceptedFd(server)),
      // Never among what is kept: the next agent may have other addresses.
      ofEndpoints: () => [acceptedFd(server)],
    },
    isStopping: () => false,
    letGo: async () => {},
  });

test('the sockets that the agent has now are kept, and those of an agent that has gone', async () => {
  let count = 2;
  const socket = await openSocket(() => count);
  kept.refresh();
  assert.equal(kept.fds.length, 0, 'the supervisor does not wait for them');
  await waitUntil('copies of both', () => (kept.fds.length === 2 ? true : undefined));
  count = 3;
  kept.refresh();
  await waitUntil('copies of all three', () => (kept.fds.length === 3 ? true : undefined));
  socket.close();
  const before = kept.fds;
  kept.refresh();
  await kept.settled();
  assert.deepEqual(kept.fds, before);
});

test('an agent that does not answer is asked again, and what was kept is kept until it does', async () => {
  const first = await openSocket(() => 1);
  kept.refresh();
  await waitUntil('a copy', () => (kept.fds.length === 1 ? true : undefined));
  first.close();
  const silent = net.createServer(() => undefined).listen(agentSocketPath(stateDir));
  await once(silent, 'listening');
  const before = kept.fds;
  kept.refresh();
  await kept.settled();
  assert.deepEqual(kept.fds, before);
  silent.close();
  const second = await openSocket(() => 2);
  await waitUntil('copies from the one that answers', () => (kept.fds.length === 2 ? true : undefined));
  second.close();
});

test('what was asked for before they were dropped is closed when it comes', async () => {
  const socket = await openSocket(() => 4);
  const before = openFiles();
  kept.refresh();
  kept.drop();
  await kept.settled();
  assert.equal(kept.fds.length, 0);
  await waitUntil('no descriptor is left', () => (openFiles() <= before ? true : undefined));
  socket.close();
});

test('a successor that may not open enough files says so', async () => {
  const socket = await openSocket(() => 300);
  const predecessor = new URL('../../../../../agent/control/succession/predecessor.js', import.meta.url);
  const program = `
    const { Predecessor } = await import(${JSON.stringify(predecessor.href)});
    try { Predecessor.find(${JSON.stringify(stateDir)}); } catch (error) { console.log(error.code, error.hint); }`;
  const limited = 'ulimit -n 128; exec "$@"';
  const run = ['-c', limited, 'sh', process.execPath, '--input-type=module', '-e', program];
  const { stdout } = await promisify(execFile)('sh', run);
  assert.match(stdout, /^EMFILE raise the limit of open files/);
  socket.close();
});

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}
