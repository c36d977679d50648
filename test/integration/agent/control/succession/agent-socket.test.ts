import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { closeSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { afterEach, beforeEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { HttpEndpoint } from '../../../../../agent/admin/http-endpoint.js';
import { AgentSocket, agentSocketPath } from '../../../../../agent/control/succession/agent-socket.js';
import { acceptedFd } from '../../../../../agent/native/addon.js';
import { listenerOf } from '../../../../../agent/native/passed-sockets.js';
import { createLog } from '../../../../../shared/log.js';
import { patientSignal } from '../../../../lab/patience.js';
import { waitUntil } from '../../../../lab/wait-until.js';
import type { SuccessorFound, SuccessorOutcome } from '../../../../support/agent/successor-thread.js';

const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
let stateDir: string;
let server: net.Server;
let letGo: number;

beforeEach(async () => {
  stateDir = mkdtempSync(path.join(tmpdir(), 'culvert-succession-'));
  server = net.createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  letGo = 0;
});

afterEach(() => {
  server.close();
  rmSync(stateDir, { recursive: true });
});

const noSockets = { ofWorkloads: () => [], ofEndpoints: () => [] };

function openSocket(): Promise<AgentSocket> {
  const sockets = { ofWorkloads: () => [acceptedFd(server)], ofEndpoints: () => [] };
  return AgentSocket.open({ stateDir, log, sockets, isStopping: () => false, letGo: async () => void letGo++ });
}

async function startSuccessor(): Promise<{ thread: Worker; found: SuccessorFound }> {
  const thread = new Worker(new URL('../../../../support/agent/successor-thread.js', import.meta.url), {
    workerData: { stateDir },
  });
  const [found] = (await once(thread, 'message')) as [SuccessorFound];
  return { thread, found };
}

async function takeOver(thread: Worker): Promise<SuccessorOutcome> {
  thread.postMessage('take over', []);
  const [outcome] = (await once(thread, 'message')) as [SuccessorOutcome];
  return outcome;
}

test('a successor gets copies of the sockets, and the running agent lets go when it is told to', async () => {
  const socket = await openSocket();
  assert.equal(statSync(agentSocketPath(stateDir)).mode & 0o777, 0o600);
  const { thread, found } = await startSuccessor();
  assert.equal(found?.pid, process.pid);
  const [copy = -1] = found.sockets;
  assert.equal(listenerOf(copy)?.port, (server.address() as net.AddressInfo).port);
  assert.equal(letGo, 0);
  assert.equal(await takeOver(thread), 'in charge');
  assert.equal(letGo, 1);
  closeSync(copy);
  socket.close();
  assert.equal(existsSync(agentSocketPath(stateDir)), true, "the name is its successor's by now");
  await thread.terminate();
});

test('of two successors one takes over', async () => {
  const socket = await openSocket();
  const [one, other] = [await startSuccessor(), await startSuccessor()];
  assert.equal(await takeOver(one.thread), 'in charge');
  assert.deepEqual(await takeOver(other.thread), { code: 'TAKE_OVER' });
  assert.equal(letGo, 1);
  for (const fd of [...(one.found?.sockets ?? []), ...(other.found?.sockets ?? [])]) closeSync(fd);
  socket.close();
  await Promise.all([one.thread.terminate(), other.thread.terminate()]);
});

test('a successor that goes away changes nothing, and one takes charge of what a dead agent left', async () => {
  const socket = await openSocket();
  const gone = await startSuccessor();
  for (const fd of gone.found?.sockets ?? []) closeSync(fd);
  await gone.thread.terminate();
  const waiting = await startSuccessor();
  for (const fd of waiting.found?.sockets ?? []) closeSync(fd);
  assert.equal(letGo, 0);
  socket.close();
  assert.equal(existsSync(agentSocketPath(stateDir)), false);
  const none = await startSuccessor();
  assert.equal(none.found, null);
  await Promise.all([waiting.thread.terminate(), none.thread.terminate()]);
});

test('a state directory whose path is too long for a socket works without one', async () => {
  const deep = path.join(stateDir, 'd'.repeat(100));
  const socket = await AgentSocket.open({
    stateDir: deep,
    log,
    sockets: noSockets,
    isStopping: () => false,
    letGo: async () => {},
  });
  assert.equal(existsSync(agentSocketPath(deep)), false);
  assert.match(socket.problem ?? '', /too long/);
  socket.close();
});

test('a socket that cannot be made is tried again until it is there, and says so meanwhile', async () => {
  // In place of the directory, as if the disk were not mounted yet.
  const late = path.join(stateDir, 'late');
  writeFileSync(late, '');
  const opened = new EventEmitter();
  const socket = await AgentSocket.open({
    stateDir: late,
    log,
    sockets: noSockets,
    isStopping: () => false,
    letGo: async () => {},
    onOpen: () => opened.emit('open'),
    retryMs: 10,
  });
  assert.ok(socket.problem?.includes(`cannot write ${late}: ${late} is no directory`), socket.problem ?? '');
  const isOpen = once(opened, 'open', { signal: patientSignal(10_000) });
  rmSync(late);
  await isOpen;
  assert.equal(socket.problem, null);
  assert.equal(statSync(agentSocketPath(late)).mode & 0o777, 0o600);
  socket.close();
  assert.equal(existsSync(agentSocketPath(late)), false);
});

test('a socket that comes late leaves that of an agent that has begun meanwhile alone', async () => {
  const late = path.join(stateDir, 'late');
  writeFileSync(late, '');
  // Long enough that no try is under way when the socket is closed below: it would write where the test cleans up.
  const retryMs = 1000;
  const init = { stateDir: late, log, sockets: noSockets, isStopping: () => false, letGo: async () => {}, retryMs };
  const first = await AgentSocket.open(init);
  rmSync(late);
  const other = net.createServer();
  mkdirSync(late);
  await once(other.listen(agentSocketPath(late)), 'listening');
  const { ino } = statSync(agentSocketPath(late));
  await waitUntil('the answer', () => (first.problem?.includes('another agent') === true ? true : undefined));
  assert.equal(statSync(agentSocketPath(late)).ino, ino);
  first.close();
  assert.equal(existsSync(agentSocketPath(late)), true);
  other.close();
});

test('a successor is in charge after the stated time, although the running agent has not let go', async () => {
  const never = new Promise<void>(() => {});
  const socket = await AgentSocket.open({
    stateDir,
    log,
    sockets: noSockets,
    isStopping: () => false,
    letGo: () => never,
    letGoWithinMs: 50,
  });
  const { thread } = await startSuccessor();
  assert.equal(await takeOver(thread), 'in charge');
  socket.close();
  await thread.terminate();
});

test('the socket also answers HTTP, for operators on this host, and nothing else of that kind', async () => {
  const endpoint = new HttpEndpoint({
    routes: { 'GET /dump': () => ({ status: 200, body: { is: 'here' } }) },
    log,
    onCut: () => undefined,
  });
  const socket = await AgentSocket.open({
    stateDir,
    log,
    sockets: noSockets,
    isStopping: () => false,
    letGo: async () => undefined,
    serveHttp: (connection) => endpoint.adopt(connection),
  });
  const ask = async (path: string): Promise<[number, unknown]> => {
    const request = http.get({ socketPath: agentSocketPath(stateDir), path, agent: false });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return [response.statusCode ?? 0, await json(response)];
  };
  try {
    assert.deepEqual(await ask('/dump'), [200, { is: 'here' }]);
    assert.equal((await ask('/other'))[0], 404);
    const held = net.connect(agentSocketPath(stateDir));
    held.on('error', () => undefined);
    held.write('GET /du');
    await once(held, 'connect');
    assert.deepEqual(await ask('/dump'), [200, { is: 'here' }], 'one that is slow holds up no other');
    const closed = once(held, 'close');
    await endpoint[Symbol.asyncDispose]();
    await closed;
  } finally {
    socket.close();
  }
});
