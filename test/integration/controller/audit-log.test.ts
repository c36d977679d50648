import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RunningController } from '../../../controller/app.js';
import type {
  AuditItem,
  AuditLines,
  AuditList,
  TokenAnswer,
  UserCreatedAnswer,
} from '../../../controller/api/api-types.js';
import { exportCa } from '../../../controller/ca/ca-commands.js';
import { parseMetrics } from '../../lab/metric-samples.js';
import { patientMs } from '../../lab/patience.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import {
  apply,
  callApi,
  eventually,
  ruleDocument,
  startedController,
  temporaryDirectory,
} from '../../support/controller/controller-fixture.js';
import { smallDisk } from '../../support/controller/small-disk.js';

const emergency = JSON.stringify({
  apiVersion: 'culvert.dev/v1',
  kind: 'SegmentationRule',
  metadata: { name: 'in-need', annotations: { 'culvert.dev/break-glass': 'INC-1' } },
  spec: { tier: 'platform', action: 'allow', to: [{ namespace: 'shop' }], expiresAt: '2100-01-01T00:00:00Z' },
});

async function auditLines(stateDir: string): Promise<string> {
  const directory = join(stateDir, 'audit');
  const names = (await readdir(directory)).filter((name) => name.endsWith('.log')).sort();
  return (await Promise.all(names.map((name) => readFile(join(directory, name), 'utf8')))).join('');
}

test('the audit log tells who asked for what and how it ended, is whole, and holds no secret', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = join(directory.path, 'state');
  const env = { CULVERT_CONTEXT: join(stateDir, 'admin.yaml') };
  const secrets: string[] = [];
  {
    await using controller = await startedController(stateDir);
    secrets.push(controller.adminToken);
    const user = async (name: string, role: string): Promise<string> => {
      const { body } = await callApi(controller, 'POST', '/v1/users', { body: { name, role } });
      const { token } = body as UserCreatedAnswer;
      secrets.push(token);
      return token;
    };
    const [alice, viewer] = [await user('alice', 'editor'), await user('ci', 'viewer')];
    await callApi(controller, 'POST', '/v1/users', { body: { name: 'alice', role: 'editor' } });
    const { token } = (await callApi(controller, 'POST', '/v1/tokens', { body: { node: 'host-a' } }))
      .body as TokenAnswer;
    secrets.push(token);
    const documents = ruleDocument('closed', { action: 'deny', to: [{ namespace: 'shop' }], reason: 'SECRET-REASON' });
    assert.equal((await callApi(controller, 'POST', '/v1/apply', { token: alice, body: { documents } })).status, 200);
    const refused = await callApi(controller, 'POST', '/v1/apply', { token: viewer, body: { documents } });
    assert.equal(refused.status, 403);
    const stranger = 'culvert_SECRET-OF-A-STRANGER-0123456789abcdefghij';
    secrets.push(stranger, 'SECRET-REASON');
    assert.equal((await callApi(controller, 'GET', `/v1/status?token=${stranger}`, { token: stranger })).status, 401);
    assert.equal((await apply(controller, emergency)).status, 200);
    assert.equal((await callApi(controller, 'POST', '/v1/rollback', { body: { revision: 1 } })).status, 200);
    assert.equal((await callApi(controller, 'DELETE', '/v1/users/alice')).status, 200);
    await callApi(controller, 'POST', '/v1/join', { token: null, body: {} });
  }
  const password = join(directory.path, 'password');
  await writeFile(password, 'SECRET-PASSWORD\n');
  secrets.push('SECRET-PASSWORD');
  const place = { stateDir, trustDomain: 'culvert.local' };
  await exportCa(place, join(directory.path, 'ca.p12'), password);

  await using controller = await startedController(stateDir);
  const { code, out, err } = await culvert(['audit-log', '-o', 'json'], { env });
  assert.equal(code, 0, err);
  const requests = JSON.parse(out) as AuditItem[];
  const told = requests.map(({ user, action, target, result, code: why }) => [user, action, target, result, why]);
  const wanted = [
    ['admin', 'user.create', 'alice', 'done', null],
    ['admin', 'user.create', 'ci', 'done', null],
    ['admin', 'user.create', 'alice', 'refused', 'USER_EXISTS'],
    ['admin', 'token.create', 'host-a', 'done', null],
    ['alice', 'apply', null, 'done', null],
    ['ci', 'refused', null, 'refused', 'FORBIDDEN'],
    ['anonymous', 'refused', null, 'refused', 'UNAUTHORIZED'],
    ['admin', 'apply.break-glass', 'SegmentationRule/in-need', 'done', null],
    ['admin', 'rollback', '1', 'done', null],
    ['admin', 'user.delete', 'alice', 'done', null],
  ];
  assert.deepEqual(told.slice(0, wanted.length), wanted);
  const local = requests.filter(({ source }) => source === 'local').map(({ action, result }) => [action, result]);
  assert.deepEqual(local, [['ca.export', 'done']]);
  const applied = requests.find(({ user, action }) => user === 'alice' && action === 'apply');
  assert.deepEqual(applied?.detail['changed'], ['SegmentationRule/closed created']);

  const text = await auditLines(stateDir);
  for (const secret of secrets) assert.ok(!text.includes(secret), `${secret.slice(0, 12)}… is in the audit log`);
  assert.doesNotMatch(text, /PRIVATE KEY|culvert1\./);

  const ofCa = (await culvert(['audit-log', '--action', 'ca'], { env })).out;
  const ranAt = String(requests.find(({ source }) => source === 'local')?.detail['at']);
  assert.match(ofCa, new RegExp(`^\\d+ +${ranAt} .* ca\\.export +- +done +-$`, 'm'), 'when it ran, and without ids');
  const ofUsers = await culvert(['audit-log', '--action', 'user', '--user', 'admin', '--since', '1h'], { env });
  assert.equal(ofUsers.out.split('\n').length, 1 + 4);
  assert.match(ofUsers.out, /user\.create +alice +refused USER_EXISTS/);
  assert.equal((await culvert(['audit-log', '--action', 'usr'], { env })).code, 64);
  const whole = await culvert(['audit-log', 'verify'], { env });
  assert.match(whole.out, /^\d+ lines are whole, from 1 to \d+: \d+:[0-9a-f]{64}$/);
  const end = whole.out.slice(whole.out.lastIndexOf(' ') + 1);
  const exported = join(directory.path, 'audit.jsonl');
  assert.equal((await culvert(['audit-log', 'export', '--out', exported], { env })).code, 0);
  assert.equal((await culvert(['audit-log', 'verify', '--file', exported, '--expect', end])).code, 0);
  const lines = (await readFile(exported, 'utf8')).split('\n');
  lines[3] = (lines[3] ?? '').replace('admin', 'adnim');
  await writeFile(exported, lines.join('\n'));
  const changed = await culvert(['audit-log', 'verify', '--file', exported]);
  assert.equal(changed.code, 1);
  assert.match(changed.err, /broken at line 4: it was changed.*\[AUDIT_BROKEN\]$/);
  assert.equal((await callApi(controller, 'GET', '/v1/audit-log', { token: 'x' })).status, 401);
});

test(
  'on a full disk no privileged request is done, reading goes on, and nothing is in the log that was not done',
  { timeout: patientMs(90_000) },
  async () => {
    await using disk = await smallDisk('30m');
    await using controller = await startedController(disk.path);
    await disk.fill();
    const create = () => callApi(controller, 'POST', '/v1/users', { body: { name: 'alice', role: 'editor' } });
    const refused = await create();
    assert.equal(refused.status, 503, refused.text);
    assert.match(refused.text, /AUDIT_WRITE/);
    assert.match(refused.text, /the audit log cannot be written, so nothing was done/);
    assert.match(refused.text, /free space \(df\)/);
    assert.deepEqual((await callApi(controller, 'GET', '/v1/users')).body, []);
    assert.equal(await gauge(controller, 'audit_log_writable'), 0);
    assert.ok((await gauge(controller, 'audit_lines_lost_total')) > 0);
    assert.equal((await callApi(controller, 'GET', '/v1/status')).status, 200);
    await disk.free();
    await eventually('the user is made', async () => ((await create()).status === 201 ? true : undefined));
    assert.equal(await gauge(controller, 'audit_log_writable'), 1);
    const env = { CULVERT_CONTEXT: join(disk.path, 'admin.yaml') };
    const verified = await culvert(['audit-log', 'verify'], { env });
    assert.equal(verified.code, 0, verified.err);
  },
);

async function gauge(controller: RunningController, name: string): Promise<number> {
  const { text } = await callApi(controller, 'GET', '/metrics', { token: null });
  return parseMetrics(text).find((sample) => sample.name === `culvert_controller_${name}`)?.value ?? Number.NaN;
}

test('requests of an administrator that are refused for what they ask cannot fill the audit log either', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const call = (method: string, path: string, body?: object) =>
    callApi(controller, method, path, body === undefined ? {} : { body });
  assert.equal((await call('POST', '/v1/users', { name: 'alice', role: 'viewer' })).status, 201);
  const before = await callApi(controller, 'GET', '/v1/audit-log/lines?after=0');
  for (let round = 0; round < 20; round++) {
    for (const [method, path, body] of [
      ['POST', '/v1/users', { name: 'alice', role: 'viewer' }],
      ['POST', '/v1/users', { name: 'alice', role: 'king' }],
      ['DELETE', '/v1/users/nobody-here'],
      ['POST', '/v1/tokens', { node: 'no node' }],
      ['DELETE', '/v1/tokens/000000000000'],
      ['DELETE', '/v1/nodes/host-z'],
    ] as const) {
      const { status, text } = await call(method, path, body);
      assert.ok(status >= 400 && status < 500, `${method} ${path}: ${status} ${text}`);
    }
  }
  const count = ({ body }: Awaited<typeof before>): number => (body as AuditLines).lines.length;
  const more = count(await callApi(controller, 'GET', '/v1/audit-log/lines?after=0')) - count(before);
  assert.ok(more > 0 && more <= 20, `${more} lines for 120 requests`);
});

test('strangers cannot fill the audit log: what is beyond a bound is counted', async () => {
  await using directory = await temporaryDirectory();
  {
    await using controller = await startedController(directory.path);
    for (let at = 0; at < 60; at++) await callApi(controller, 'GET', '/v1/status', { token: `wrong-${at}` });
  }
  const lines = (await auditLines(directory.path))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditItem);
  const refused = lines.filter(({ action }) => action === 'refused');
  assert.equal(refused.length, 20 + 1);
  assert.deepEqual(refused.at(-1)?.detail, { requests: 40, sources: 1 });
});

test('editors cannot fill the audit log with what changes nothing: refusals and dry runs are bounded apart', async () => {
  await using directory = await temporaryDirectory();
  const wrong = ruleDocument('wrong', { action: 'deny', to: [{ segment: 'nowhere' }] });
  const elsewhere = ruleDocument('elsewhere', { action: 'deny', to: [{ namespace: 'bank' }] });
  const right = ruleDocument('right', { action: 'deny', to: [{ namespace: 'shop' }] });
  {
    await using controller = await startedController(directory.path);
    const made = await callApi(controller, 'POST', '/v1/users', {
      body: { name: 'alice', role: 'editor', namespaces: ['shop'] },
    });
    const { token } = made.body as UserCreatedAnswer;
    const ask = async (documents: string, dryRun: boolean): Promise<number> =>
      (await callApi(controller, 'POST', '/v1/apply', { token, body: { documents, dryRun } })).status;
    for (let at = 0; at < 25; at++) assert.equal(await ask(right, true), 200);
    for (let at = 0; at < 13; at++) {
      assert.equal(await ask(wrong, false), 422);
      assert.equal(await ask(elsewhere, false), 403);
    }
    assert.equal(await ask(right, false), 200);
    for (let at = 0; at < 5; at++) assert.equal(await ask(right, false), 200);
    const { requests } = (await callApi(controller, 'GET', '/v1/audit-log?user=alice')).body as AuditList;
    assert.deepEqual(requests.at(-1)?.detail['changed'], ['SegmentationRule/right created']);
  }
  const lines = (await auditLines(directory.path))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditItem);
  const ofAlice = lines.filter(({ user }) => user === 'alice').map(({ result, code }) => code ?? result);
  const count = (what: string): number => ofAlice.filter((one) => one === what).length;
  assert.deepEqual([count('begun'), count('done')], [1, 20 + 1]);
  assert.deepEqual([count('INVALID_RESOURCES'), count('FORBIDDEN')], [10, 10]);
  const counted = lines.filter(({ user }) => user === 'several').map(({ action, detail }) => ({ action, ...detail }));
  assert.deepEqual(counted, [
    { action: 'refused', requests: 6, users: ['alice'] },
    { action: 'unchanged', requests: 5 + 5, users: ['alice'] },
  ]);
});
