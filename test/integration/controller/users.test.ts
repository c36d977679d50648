import assert from 'node:assert/strict';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import type { HistoryItem, UserAnswer } from '../../../controller/api/api-types.js';
import { UserAccounts } from '../../../controller/access/user-accounts.js';
import { culvert, type CliRun } from '../../support/controller/cli-fixture.js';
import { callApi, startedController, temporaryDirectory } from '../../support/controller/controller-fixture.js';

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
  const scope = { namespaces: null, tiers: null, mayBreakGlass: true };
  const path = join(directory.path, 'users.json');
  await writeFile(path, '[{ "name": "alice"');
  const open = (): Promise<UserAccounts> => UserAccounts.open({ path, nowMs: () => 1, log: pino({ level: 'silent' }) });
  const users = await open();
  assert.deepEqual(users.list(), []);
  assert.deepEqual(await readdir(directory.path), ['users.json.corrupt-1']);
  const { token } = await users.create({ name: 'alice', role: 'admin', scope, ttlMs: null, createdBy: 'admin' });
  assert.deepEqual((await open()).authenticate(`Bearer ${token}`), { name: 'alice', role: 'admin', scope });
});
