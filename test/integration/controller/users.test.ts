import assert from 'node:assert/strict';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import { parse } from 'yaml';
import type { HistoryItem, UserAnswer } from '../../../controller/api/api-types.js';
import { rotateCa } from '../../../controller/ca/ca-commands.js';
import { UserAccounts } from '../../../controller/access/user-accounts.js';
import { culvert, type CliRun } from '../../support/controller/cli-fixture.js';
import { callApi, startedController, temporaryDirectory } from '../../support/controller/controller-fixture.js';
import { ownPort } from '../../support/own-port.js';

const segment =
  'apiVersion: culvert.dev/v1\nkind: Segment\nmetadata: { name: batch }\nspec: { members: [{ namespace: batch }] }\n';

type Run = (...argv: readonly string[]) => Promise<CliRun>;

/** Creates a user with the administrator's context, and runs commands with what that wrote. */
async function userOf(directory: string, admin: Run, name: string, ...options: readonly string[]): Promise<Run> {
  const { code, out, err } = await admin('user', 'create', name, ...options);
  assert.equal(code, 0, err);
  const path = join(directory, `${name}.yaml`);
  await writeFile(path, out, { mode: 0o600 });
  return (...argv) => culvert(argv, { env: { CULVERT_CONTEXT: path }, stdin: segment });
}

test('users are named in the history, held to their roles, and turned away one by one', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = join(directory.path, 'state');
  const context = join(stateDir, 'admin.yaml');
  const admin: Run = (...argv) => culvert(argv, { env: { CULVERT_CONTEXT: context }, stdin: segment });
  let alice: Run;
  let viewer: Run;
  {
    await using controller = await startedController(stateDir);
    alice = await userOf(directory.path, admin, 'alice', '--role', 'editor');
    viewer = await userOf(directory.path, admin, 'ci', '--ttl', '90d');

    assert.equal((await alice('apply', '-f', '-')).code, 0);
    const history = JSON.parse((await viewer('history', '-o', 'json')).out) as HistoryItem[];
    assert.equal(history[0]?.by, 'alice');

    for (const argv of [['status'], ['export'], ['get', 'segments'], ['lint'], ['check']]) {
      const answer = await viewer(...argv);
      assert.equal(answer.code, 0, `${argv.join(' ')}: ${answer.err}`);
    }
    const refused = [
      [viewer, 'editor', 'apply', '-f', '-'],
      [viewer, 'editor', 'apply', '-f', '-', '--dry-run'],
      [viewer, 'editor', 'delete', 'segment', 'batch'],
      [viewer, 'editor', 'rollback', '1'],
      [viewer, 'admin', 'token', 'create', '--node', 'host-a'],
      [alice, 'admin', 'token', 'create', '--node', 'host-a'],
      [alice, 'admin', 'user', 'create', 'mallory', '--role', 'admin'],
      [alice, 'admin', 'user', 'list'],
      [alice, 'admin', 'user', 'delete', 'ci'],
    ] as const;
    for (const [who, needed, ...argv] of refused) {
      const { code, err } = await who(...argv);
      assert.equal(code, 5, `${argv.join(' ')}: ${err}`);
      assert.match(err, new RegExp(`but this needs ${needed} .*\\[FORBIDDEN\\]$`));
    }

    const again = await admin('user', 'create', 'alice');
    assert.equal(again.code, 1);
    assert.match(again.err, /the user alice already exists .*\[USER_EXISTS\]$/);
    const reserved = await admin('user', 'create', 'system');
    assert.match(reserved.err, /name: this name is reserved/);
    assert.equal((await admin('user', 'delete', 'alise')).code, 4);
    const answers = await Promise.all(
      Array.from({ length: 8 }, () =>
        callApi(controller, 'POST', '/v1/users', { body: { name: 'bob', role: 'viewer' } }),
      ),
    );
    assert.equal(answers.filter(({ status }) => status === 201).length, 1);
    assert.equal(answers.filter(({ status }) => status === 409).length, 7);
  }

  const path = join(stateDir, 'users.json');
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const stored = await readFile(path, 'utf8');
  for (const name of ['alice', 'ci']) {
    const token = /token: (\S+)/.exec(await readFile(join(directory.path, `${name}.yaml`), 'utf8'))?.[1];
    assert.ok(token !== undefined && !stored.includes(token), 'no token is stored');
  }

  await using _ = await startedController(stateDir, { changes: {} });
  const users = JSON.parse((await admin('user', 'list', '-o', 'json')).out) as UserAnswer[];
  assert.deepEqual(
    users.map(({ name, role, createdBy, expiresAt }) => [name, role, createdBy, expiresAt === null]),
    [
      ['alice', 'editor', 'admin', true],
      ['bob', 'viewer', 'admin', true],
      ['ci', 'viewer', 'admin', false],
    ],
  );
});

test('a deleted user, an expired one and a stranger are refused, each with its own words', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = join(directory.path, 'state');
  const clock = { nowMs: Date.now() };
  await using controller = await startedController(stateDir, { nowMs: () => clock.nowMs });
  const create = async (name: string, ttlMs?: number): Promise<string> => {
    const body = { name, role: 'viewer', ...(ttlMs === undefined ? {} : { ttlMs }) };
    return ((await callApi(controller, 'POST', '/v1/users', { body })).body as { token: string }).token;
  };
  const [gone, brief] = [await create('gone'), await create('brief', 60_000)];
  const ask = async (token: string): Promise<{ status: number; message: string }> => {
    const { status, body } = await callApi(controller, 'GET', '/v1/status', { token });
    return { status, message: (body as { message?: string }).message ?? '' };
  };
  assert.equal((await ask(gone)).status, 200);
  assert.equal((await ask(brief)).status, 200);
  assert.equal((await callApi(controller, 'DELETE', '/v1/users/gone')).status, 200);
  clock.nowMs += 60_000;
  assert.deepEqual(await ask(gone), { status: 401, message: 'the request has no valid credential' });
  const late = await ask(brief);
  assert.equal(late.status, 401);
  assert.match(late.message, /^the credential of brief expired at /);
  assert.equal((await ask(`culvert_${'A'.repeat(43)}`)).status, 401);
});

test('a damaged file of users is moved aside, authenticates no user, and can be written again', async () => {
  await using directory = await temporaryDirectory();
  const scope = { namespaces: null, tiers: null, mayBreakGlass: true, mayDeleteWorkloads: true };
  const path = join(directory.path, 'users.json');
  await writeFile(path, '[{ "name": "alice"');
  const open = (): Promise<UserAccounts> => UserAccounts.open({ path, nowMs: () => 1, log: pino({ level: 'silent' }) });
  const users = await open();
  assert.deepEqual(users.list(), []);
  assert.deepEqual(await readdir(directory.path), ['users.json.corrupt-1']);
  const { token } = await users.create({ name: 'alice', role: 'admin', scope, ttlMs: null, createdBy: 'admin' });
  assert.deepEqual((await open()).authenticate(`Bearer ${token}`), { name: 'alice', role: 'admin', scope });
});

test('a context file that is refreshed outlives a rotation of the CA, and one that is not is made again for its user', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = join(directory.path, 'state');
  const place = { stateDir, trustDomain: 'culvert.local' };
  const admin: Run = (...argv) => culvert(argv, { env: { CULVERT_CONTEXT: join(stateDir, 'admin.yaml') } });
  const as = (file: string, ...argv: readonly string[]): Promise<CliRun> =>
    culvert(argv, { env: { CULVERT_CONTEXT: join(directory.path, file) } });
  const listen = `127.0.0.1:${await ownPort()}`;
  const start = () => startedController(stateDir, { changes: { listen } });
  {
    await using controller = await start();
    for (const name of ['alice', 'bob']) await userOf(directory.path, admin, name);
    const { token } = parse(await readFile(join(directory.path, 'alice.yaml'), 'utf8')) as { token: string };
    await writeFile(join(directory.path, 'mesh.pem'), controller.caPem);
    await chmod(join(directory.path, 'mesh.pem'), 0o644);
    const named = { controller: controller.url, caFile: 'mesh.pem', token };
    await writeFile(join(directory.path, 'by-name.yaml'), JSON.stringify(named), { mode: 0o600 });
    assert.doesNotMatch((await as('alice.yaml', 'status')).err, /warning/);
  }
  assert.match(await rotateCa(place, 'prepare'), /before that step, 2 users with a context file have to run/);
  {
    await using _ = await start();
    assert.match((await admin('ca', 'status')).out, /^2 users have .*: before activate, each has to run/m);
    for (const file of ['alice.yaml', 'by-name.yaml']) {
      assert.match((await as(file, 'status')).err, /warning: the mesh gets a new root CA, which .* context refresh/);
      const refreshed = await as(file, 'context', 'refresh');
      assert.equal(refreshed.code, 0, refreshed.err);
      assert.match(refreshed.out, /has the 2 roots that the mesh trusts$/);
      assert.deepEqual(await as(file, 'status').then(({ code, err }) => [code, err]), [0, '']);
    }
    const modes = ['alice.yaml', 'mesh.pem'].map(async (name) => (await stat(join(directory.path, name))).mode & 0o777);
    assert.deepEqual(await Promise.all(modes), [0o600, 0o644]);
    assert.doesNotMatch((await admin('status')).err, /warning/, 'the controller keeps its own file');
  }
  assert.match(await rotateCa(place, 'activate', { isForced: true }), /need: culvert user renew NAME$/);
  {
    await using _ = await start();
    for (const file of ['alice.yaml', 'by-name.yaml']) assert.equal((await as(file, 'status')).code, 0);
    assert.match((await admin('ca', 'status')).out, /not refreshed before activate are refused/);
    const late = await as('bob.yaml', 'context', 'refresh');
    assert.deepEqual(
      [late.code, /\(ask|ask an administrator .*culvert user renew NAME/.test(late.err)],
      [3, true],
      late.err,
    );
    const old = parse(await readFile(join(directory.path, 'bob.yaml'), 'utf8')) as {
      controller: string;
      token: string;
    };
    const renewed = await admin('user', 'renew', 'bob', '--out', join(directory.path, 'bob-new.yaml'));
    assert.match(renewed.err, /new context file of bob, role viewer: keep it secret/);
    assert.equal((await as('bob-new.yaml', 'status')).code, 0);
    const { ca } = parse(await readFile(join(directory.path, 'bob-new.yaml'), 'utf8')) as { ca: string };
    await writeFile(join(directory.path, 'stolen.yaml'), JSON.stringify({ ...old, ca }), { mode: 0o600 });
    assert.equal((await as('stolen.yaml', 'status')).code, 5, 'the old token is refused');
    assert.equal((await as('alice.yaml', 'user', 'renew', 'bob')).code, 5);
    assert.equal((await admin('user', 'renew', 'bop')).code, 4);
  }
  assert.match(await rotateCa(place, 'finish', { isForced: true }), /no longer trusted; of 2 users/);
  await using _ = await start();
  assert.equal((await as('alice.yaml', 'status')).code, 0);
});

test('a user whose time is over is renewed only with a new one, and stays what it was', async () => {
  await using directory = await temporaryDirectory();
  let nowMs = 1000;
  const init = { path: join(directory.path, 'users.json'), nowMs: () => nowMs, log: pino({ level: 'silent' }) };
  const users = await UserAccounts.open(init);
  const scope = { namespaces: ['shop'], tiers: null, mayBreakGlass: false, mayDeleteWorkloads: false };
  const { token } = await users.create({ name: 'ci', role: 'editor', scope, ttlMs: 5000, createdBy: 'admin' });
  nowMs = 7000;
  await assert.rejects(users.renew('ci', null), { code: 'USER_EXPIRED' });
  const renewed = await users.renew('ci', 60_000);
  assert.deepEqual([renewed.user.expiresAtMs, renewed.user.scope], [67_000, scope]);
  for (const accounts of [users, await UserAccounts.open(init)]) {
    assert.equal(accounts.authenticate(`Bearer ${token}`), undefined);
    assert.equal(accounts.authenticate(`Bearer ${renewed.token}`)?.name, 'ci');
  }
});
