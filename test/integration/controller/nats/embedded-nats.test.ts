import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'node:tls';
import { startEmbeddedNats } from '../../../../controller/nats/embedded-nats.js';
import { startNatsProcess } from '../../../../controller/nats/nats-process.js';
import { stopOrphan } from '../../../../controller/nats/orphan.js';
import { createUser } from '../../../../shared/bus/nats-accounts.js';
import { buckets } from '../../../../shared/bus/subjects.js';
import { createLog } from '../../../../shared/log.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { Inbox, within } from '../../../support/bus/bus-deadline.js';
import { NatsFixture } from '../../../support/bus/bus-fixture.js';

const settings = { history: 1, maxBytes: -1, replicas: 1 } as const;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The certificate that the server shows now. NATS speaks in the clear first, so the client must upgrade. */
async function servedSerial(port: number): Promise<string> {
  const { createConnection } = await import('node:net');
  const plain = createConnection(port, '127.0.0.1');
  plain.on('error', () => undefined);
  await once(plain, 'data');
  const socket = connect({ socket: plain, rejectUnauthorized: false });
  socket.on('error', () => undefined);
  await once(socket, 'secureConnect');
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

test('the server keeps what was stored over a stop and a start, and its secrets are readable by their owner only', async () => {
  await using nats = await NatsFixture.start();
  const { port, account } = nats.server;
  const controller = await nats.controller();
  await (await controller.bucket(buckets.config, { create: settings })).put('a', Buffer.from('1'));
  await controller.close();
  await nats.server.stop();
  await nats.startServer(port);
  assert.equal(nats.server.port, port);
  assert.deepEqual(nats.server.account, account);
  const again = await (await nats.controller()).bucket(buckets.config);
  assert.equal(Buffer.from((await again.get('a'))?.value ?? []).toString(), '1');
  for (const name of ['keys.json', 'server.key', 'nats-server.conf']) {
    assert.equal((await stat(join(nats.stateDir, 'nats', name))).mode & 0o777, 0o600, name);
  }
  assert.equal((await stat(join(nats.stateDir, 'nats'))).mode & 0o777, 0o700);
});

test('what the server tells of its normal life is logged for debugging only', async () => {
  await using nats = await NatsFixture.start();
  const lines = nats.logLines.map((line) => JSON.parse(line) as { level: string; component?: string; msg: string });
  const own = lines.filter((line) => line.component === 'nats-server');
  assert.ok(own.some(({ level, msg }) => level === 'debug' && msg === 'Server is ready'));
  assert.deepEqual(
    own.filter(({ level }) => level === 'info'),
    [],
  );
});

test('stopping leaves no process and no pid file', async () => {
  await using nats = await NatsFixture.start();
  const pid = nats.server.pid ?? assert.fail();
  await nats.server.stop();
  assert.equal(isAlive(pid), false);
  await assert.rejects(readFile(join(nats.stateDir, 'nats', 'nats-server.pid')), { code: 'ENOENT' });
});

test('a server that a killed controller left behind is stopped at the next start', async () => {
  await using nats = await NatsFixture.start();
  const directory = join(nats.stateDir, 'nats');
  await nats.server.stop();
  const orphan = spawn('nats-server', ['--config', join(directory, 'nats-server.conf')], { stdio: 'ignore' });
  await once(orphan, 'spawn');
  await writeFile(join(directory, 'nats-server.pid'), `${orphan.pid}\n`);
  const ended = once(orphan, 'exit');
  await nats.startServer(0);
  await within('the end of the orphan', ended);
  assert.ok(nats.logLines.some((line) => line.includes('left running')));
});

test('a server whose number cannot be written down is ended again', async () => {
  await using nats = await NatsFixture.start();
  const configFile = join(nats.stateDir, 'nats', 'nats-server.conf');
  await nats.server.stop();
  let isReady = false;
  const start = startNatsProcess({
    command: 'nats-server',
    configFile,
    pidFile: join(configFile, 'pid'),
    onLine: ({ event }) => (isReady ||= event?.kind === 'ready'),
  });
  await assert.rejects(start, { code: 'STATE_WRITE' });
  const left: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (commandLine.split('\0').includes(configFile)) left.push(pid);
  }
  assert.deepEqual(left, [], `a server is left behind (it was ready: ${isReady})`);
});

test('a foreign process with the number in the pid file is left alone', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'culvert-orphan-'));
  const stranger = spawn('sleep', ['60'], { stdio: 'ignore' });
  try {
    await once(stranger, 'spawn');
    await writeFile(join(directory, 'pid'), `${stranger.pid}\n`);
    assert.equal(await stopOrphan(join(directory, 'pid'), '/nowhere/nats-server.conf'), undefined);
    assert.equal(stranger.exitCode, null);
    assert.ok(isAlive(stranger.pid ?? 0));
  } finally {
    stranger.kill('SIGKILL');
    await rm(directory, { recursive: true });
  }
});

test('the server dies with a controller that is killed', async () => {
  await using nats = await NatsFixture.start();
  await nats.server.stop();
  const program = `
    import { startEmbeddedNats } from ${JSON.stringify(new URL('../../../../controller/nats/embedded-nats.js', import.meta.url).href)};
    import { createLog } from ${JSON.stringify(new URL('../../../../shared/log.js', import.meta.url).href)};
    const server = await startEmbeddedNats({
      stateDir: ${JSON.stringify(join(nats.stateDir, 'nats'))},
      listen: { host: '127.0.0.1', port: 0 },
      tls: ${JSON.stringify(await nats.serverTls(3_600_000))},
      log: createLog({ name: 'x', level: 'error', stream: { write() {} } }),
      onRefused() {},
    });
    process.stdout.write(server.pid + '\\n');
  `;
  const controller = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output] = (await within('the start', once(controller.stdout, 'data'))) as [Buffer];
  const pid = Number(output.toString());
  assert.ok(isAlive(pid));
  controller.kill('SIGKILL');
  const gone = async (): Promise<void> => {
    // Its new parent reaps it: poll, for there is no event of a grandchild.
    while ((await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')) !== '') await new Promise(setImmediate);
  };
  await within('the end of the server', gone());
  await nats.startServer(0);
});

test('a renewed certificate is served without dropping a connection', async () => {
  await using nats = await NatsFixture.start();
  const controller = await nats.controller();
  const statuses = new Inbox<string>();
  controller.onStatus(statuses.push);
  const before = await servedSerial(nats.server.port);
  await nats.server.replaceCertificate(await nats.serverTls(7_200_000));
  assert.notEqual(await servedSerial(nats.server.port), before);
  assert.deepEqual(statuses.items, []);
});

test('a certificate that does not fit its key is refused at the reload and the old one stays in use', async () => {
  await using nats = await NatsFixture.start();
  const before = await servedSerial(nats.server.port);
  const [one, two] = [await nats.serverTls(3_600_000), await nats.serverTls(3_600_000)];
  const mixed = { chainPem: one.chainPem, privateKeyPem: two.privateKeyPem };
  await assert.rejects(nats.server.replaceCertificate(mixed), { code: 'NATS_RELOAD_FAILED' });
  assert.equal(await servedSerial(nats.server.port), before);
});

/** The users that the server's configuration revokes. */
async function revokedIn(file: string): Promise<string[]> {
  const tokens = (await readFile(file, 'utf8')).match(/eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+/g) ?? [];
  return tokens.flatMap((token) => {
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
      nats?: { revocations?: Record<string, number> };
    };
    return Object.keys(claims.nats?.revocations ?? {});
  });
}

test('a revocation that could not be written is in force from the next start of the server on', async () => {
  await using nats = await NatsFixture.start();
  const file = join(nats.stateDir, 'nats', 'nats-server.conf');
  const user = createUser().publicKey;
  const restart = async (): Promise<void> => {
    const { restarts } = nats.server;
    const again = async (): Promise<void> => {
      while (nats.server.restarts === restarts) await delay(20);
    };
    await nats.server.restart('a test');
    await within('it runs again', again(), patientMs(30_000));
  };
  // The first one writes the port that the start was given; the next ones write nothing.
  await restart();
  await rm(file);
  await mkdir(join(file, 'in-the-way'), { recursive: true });
  await assert.rejects(nats.server.revoke(new Map([[user, Date.now()]])), { code: 'STATE_WRITE' });
  await rm(file, { recursive: true });
  await restart();
  assert.deepEqual(await revokedIn(file), [user]);
});

test('a port in use, a missing program and damaged keys say what to do', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'culvert-nats-'));
  const taken = createServer();
  taken.listen(0, '127.0.0.1');
  await once(taken, 'listening');
  await using nats = await NatsFixture.start();
  const options = {
    stateDir,
    listen: { host: '127.0.0.1', port: (taken.address() as AddressInfo).port },
    tls: await nats.serverTls(3_600_000),
    log: createLog({ name: 'test', level: 'error', stream: { write: () => undefined } }),
    onRefused: (): void => undefined,
  };
  try {
    await assert.rejects(startEmbeddedNats(options), { code: 'NATS_START_FAILED', hint: /--nats-listen/ });
    await assert.rejects(startEmbeddedNats({ ...options, command: 'no-such-nats-server' }), {
      code: 'NATS_SERVER_MISSING',
      hint: /apt-get install nats-server/,
    });
    await writeFile(join(stateDir, 'keys.json'), '{');
    await assert.rejects(startEmbeddedNats(options), { code: 'NATS_KEYS_INVALID', hint: /backup/ });
  } finally {
    taken.close();
    await rm(stateDir, { recursive: true });
  }
});

test('a server that is killed again and again is always back on the same port, and stops when told during a restart', async () => {
  await using nats = await NatsFixture.start();
  const { port } = nats.server;
  const statuses = new Inbox<string>();
  (await nats.controller()).onStatus(statuses.push);
  for (let round = 1; round <= 2; round++) {
    process.kill(nats.server.pid ?? assert.fail(), 'SIGKILL');
    // The client may be connected before the controller knows that the server is up.
    await waitUntil(`restart ${round}`, () => nats.server.restarts === round || undefined);
    await statuses.until(
      `return ${round}`,
      (items) => items.filter((item) => item === 'connected').length === round,
      20_000,
    );
  }
  assert.equal(nats.server.port, port);
  assert.equal(nats.server.restarts, 2);
  process.kill(nats.server.pid ?? assert.fail(), 'SIGKILL');
  await within('the stop', nats.server.stop());
  assert.equal(nats.server.pid, undefined);
});
