import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { certificateHash } from '../../../shared/pki/certificate-info.js';
import { splitCertificates } from '../../../shared/pki/pem.js';
import type { ApplyAnswer } from '../../../controller/api/api-types.js';
import {
  callApi,
  startedController,
  temporaryDirectory,
  withDeadline,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { ready, spawnedController } from '../../support/controller/controller-process.js';
import { withoutProgram } from '../../support/program/without-program.js';
import { programs } from '../../lab/programs.js';

const [, program] = programs.controller;
const run = promisify(execFile);

async function natsPid(stateDir: string): Promise<number> {
  return Number(await readFile(path.join(stateDir, 'nats/nats-server.pid'), 'utf8'));
}

function command(stateDir: string, args: readonly string[]) {
  return run(process.execPath, [program, ...args, '--state-dir', stateDir]);
}

test('a controller that is killed leaves a store that the next one goes on with', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  await using first = await spawnedController(stateDir);
  const access = await first.access();
  await ready(access);
  const body = { documents: workloadDocument('shop', 'api', { ip: '198.18.1.1' }) };
  assert.equal((await callApi(access, 'POST', '/v1/apply', { body })).status, 200);
  const orphan = await natsPid(stateDir);
  first.child.kill('SIGKILL');
  await first.exited;

  await using second = await spawnedController(stateDir);
  const again = await second.access();
  await ready(again);
  assert.notEqual(await natsPid(stateDir), orphan);
  const answer = await callApi(again, 'POST', '/v1/apply', { body });
  const { revision, inventory } = answer.body as ApplyAnswer;
  assert.deepEqual([revision, inventory], [1, { sequence: 2, changes: 0 }]);
  const nats = await natsPid(stateDir);
  second.child.kill('SIGHUP');
  const [code] = await withDeadline(second.exited, 'it ends after SIGHUP');
  assert.equal(code, 0, second.output());
  assert.ok(!existsSync(`/proc/${nats}`), 'its nats-server has ended with it');
  assert.ok(!readdirSync(stateDir).some((name) => name.startsWith('controller.lock.')));
});

test('every secret in the state directory is readable by its owner alone', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  await using controller = await spawnedController(stateDir);
  await ready(await controller.access());
  const secrets = [
    'admin.yaml',
    'signing-key.json',
    'ca/root.pem',
    'ca/issuing.pem',
    'journal.log',
    'inventory.log',
    'nats/keys.json',
    'nats/server.key',
  ];
  for (const secret of secrets) {
    assert.equal((await stat(path.join(stateDir, secret))).mode & 0o077, 0, secret);
  }
});

test('without nats-server, with a used port and with wrong settings it ends with what to do', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  const occupant = createServer().listen(0, '127.0.0.1');
  await once(occupant, 'listening');
  const { port } = occupant.address() as AddressInfo;
  const cases = [
    {
      args: ['--state-dir', stateDir, '--listen', `127.0.0.1:${port}`, '--nats-listen', '127.0.0.1:0'],
      env: process.env,
      expected: /port is in use.*--listen/,
      exit: 1,
    },
    {
      args: ['--listen', 'nowhere', '--state-dir', stateDir],
      env: process.env,
      expected: /--listen: "nowhere"/,
      exit: 64,
    },
    {
      args: ['--token-ttl', '5', '--log-level', 'loud', '--state-dir', stateDir],
      env: process.env,
      expected: /2 problems[\s\S]*--token-ttl[\s\S]*--log-level/,
      exit: 64,
    },
    {
      args: ['--nats', 'tls://127.0.0.1:4222', '--state-dir', stateDir],
      env: process.env,
      expected: /--nats-account-seed-file is missing/,
      exit: 64,
    },
    {
      args: ['--state-dir', stateDir, '--listen', '127.0.0.1:0'],
      env: process.env,
      without: 'nats-server',
      expected: /nats-server.*(install|apt)/i,
      exit: 1,
    },
  ];
  for (const { args, env, without = null, expected, exit } of cases) {
    const asked = [process.execPath, program, 'run', ...args];
    const [file = '', ...words] = without === null ? asked : withoutProgram(without, asked);
    const failure = await run(file, words, { env }).then(
      () => assert.fail(`${args.join(' ')} must fail`),
      (error: unknown) => error as { code: number; stderr: string },
    );
    assert.equal(failure.code, exit, args.join(' '));
    assert.match(failure.stderr, expected);
    assert.ok(!failure.stderr.includes('    at '), 'no stack trace');
  }
  occupant.close();
});

test('the CA is exported for openssl, imported elsewhere, and not over another by accident', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'one');
  const other = path.join(directory.path, 'two');
  const password = path.join(directory.path, 'password');
  const file = path.join(directory.path, 'ca.p12');
  await writeFile(password, 'correct horse\n');
  {
    await using controller = await spawnedController(stateDir);
    await ready(await controller.access());
  }
  await command(stateDir, ['ca', 'export', '--out', file, '--password-file', password]);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const { stdout } = await run('openssl', ['pkcs12', '-in', file, '-passin', `file:${password}`, '-nokeys']);
  const [exported = ''] = splitCertificates(stdout);
  await assert.rejects(
    command(stateDir, ['ca', 'export', '--out', file, '--password-file', password]),
    /ca\.p12 exists/,
  );

  const importing = ['ca', 'import', '--in', file, '--password-file', password];
  await command(other, importing);
  await using controller = await spawnedController(other);
  const { caPem } = await controller.access();
  assert.equal(certificateHash(caPem), certificateHash(exported));
  await assert.rejects(command(other, [...importing, '--replace']), /in use by process/);
  controller.child.kill('SIGTERM');
  await controller.exited;
  await assert.rejects(command(other, importing), /already has a CA/);
});

test('a root is rotated in three steps, and both roots are handed out in between', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  const roots = async (): Promise<string[]> => {
    await using controller = await spawnedController(stateDir);
    const access = await controller.access();
    await ready(access);
    const { body } = await callApi(access, 'GET', '/v1/ca', { token: null });
    const hashes = splitCertificates((body as { rootsPem: string }).rootsPem).map(certificateHash);
    controller.child.kill('SIGTERM');
    await controller.exited;
    return hashes;
  };
  const [old] = await roots();
  await assert.rejects(command(stateDir, ['ca', 'rotate', 'activate']), /no new root is prepared/);
  await command(stateDir, ['ca', 'rotate', 'prepare']);
  const prepared = await roots();
  assert.deepEqual([prepared.length, prepared[0]], [2, old]);
  await command(stateDir, ['ca', 'rotate', 'activate']);
  const active = await roots();
  assert.deepEqual(active, [prepared[1], old]);
  await command(stateDir, ['ca', 'rotate', 'finish']);
  assert.deepEqual(await roots(), [prepared[1]]);
});

test('a controller whose port is in use says only that, however often it has run', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  try {
    await (await startedController(stateDir))[Symbol.asyncDispose]();
    for (let time = 0; time < 5; time++) {
      const args = ['--state-dir', stateDir, '--listen', `127.0.0.1:${port}`, '--nats-listen', '127.0.0.1:0'];
      const failure = await run(process.execPath, [program, 'run', ...args]).then(
        () => assert.fail('it must fail'),
        (error: unknown) => error as { code: number; stderr: string; stdout: string },
      );
      assert.equal(failure.code, 1);
      assert.match(failure.stderr, /^culvert-controller: cannot listen on [^\n]*: the port is in use[^\n]*\n$/);
      assert.doesNotMatch(failure.stdout, /"level":"(?:warn|error)"/);
    }
  } finally {
    other.close();
    await once(other, 'close');
  }
});

test('a first start that cannot succeed says why, and makes no state directory', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  const start = (args: readonly string[], without: string | null = null) => {
    const asked = [process.execPath, program, '--state-dir', stateDir, '--listen', '127.0.0.1:0', ...args];
    const [file = '', ...words] = without === null ? asked : withoutProgram(without, asked);
    return run(file, words);
  };
  try {
    for (const [stderr, args, without] of [
      [/^[^\n]*the port is in use \(stop the other program[^\n]*LISTEN_FAILED\]\n$/, ['--listen', `127.0.0.1:${port}`]],
      [/stop the program that uses the port .*NATS_START_FAILED/, ['--nats-listen', `127.0.0.1:${port}`]],
      [/is not the address of a NATS server .*CONFIG_INVALID/, ['--nats', 'tls://a b:4222']],
      [/--nats-account-seed-file is missing .*CONFIG_INVALID/, ['--nats', 'tls://nats.example.net:4222']],
      [/NATS_SERVER_MISSING/, ['--nats-listen', '127.0.0.1:0'], 'nats-server'],
    ] as const) {
      await assert.rejects(start(args, without), { stderr });
      assert.ok(!existsSync(stateDir));
    }
  } finally {
    other.close();
    await once(other, 'close');
  }
});

test('a controller whose PATH lacks the directories for administration finds nats-server all the same', async () => {
  await using directory = await temporaryDirectory();
  // As `su` without a login has it, and a unit with a PATH of its own.
  await using started = await spawnedController(directory.path, [], { env: { PATH: '/nonexistent' } });
  await ready(await started.access());
});
