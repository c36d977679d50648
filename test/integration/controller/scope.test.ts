import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { readFile, writeFile } from 'node:fs/promises';
import type { UserCreatedAnswer } from '../../../controller/api/api-types.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import {
  apply,
  callApi,
  documents,
  ruleDocument,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';

const kubernetesPolicy = (namespace: string): string =>
  JSON.stringify({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace, name: 'closed' },
    spec: { podSelector: {} },
  });
const meshWide = (kind: string, name: string, spec: object): string =>
  JSON.stringify({ apiVersion: 'culvert.dev/v1', kind, metadata: { name }, spec });
const emergency = (name: string, spec: object): string =>
  JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name, annotations: { 'culvert.dev/break-glass': 'INC-1' } },
    spec: { tier: 'platform', action: 'allow', ...spec },
  });
const inShop = { action: 'allow', to: [{ namespace: 'shop' }] };
const until = { expiresAt: '2100-01-01T00:00:00Z' };

test('an editor of namespaces and tiers changes nothing else, neither by replacing, deleting, rolling back nor in a dry run', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const guard = ruleDocument('guard', { tier: 'platform', action: 'deny', to: [{ namespace: 'shop' }] });
  assert.equal((await apply(controller, guard)).status, 200);
  const create = async (body: object): Promise<string> => {
    const answer = await callApi(controller, 'POST', '/v1/users', { body });
    assert.equal(answer.status, 201, answer.text);
    return (answer.body as UserCreatedAnswer).token;
  };
  const team = await create({ name: 'team', role: 'editor', namespaces: ['shop'] });
  const tiers = await create({ name: 'tiers', role: 'editor', tiers: ['team', 'baseline'] });
  const rescue = await create({ name: 'rescue', role: 'editor', namespaces: ['shop'], breakGlass: true });
  const whole = await create({ name: 'whole', role: 'editor' });

  const cases: readonly (readonly [who: string, text: string, why: RegExp | null])[] = [
    [team, ruleDocument('ours', inShop), null],
    [team, ruleDocument('ours', { ...inShop, to: [{ workload: 'shop/db' }, { serviceAccount: 'shop/api' }] }), null],
    [team, kubernetesPolicy('shop'), null],
    [team, workloadDocument('shop', 'db', { ip: '198.18.1.2' }), null],
    [team, ruleDocument('ours', { ...inShop, tier: 'platform', priority: 5 }), /it is of the tier platform/],
    [team, ruleDocument('guard', inShop), /guard: it is of the tier platform/],
    [team, ruleDocument('theirs', { action: 'allow', to: [{ namespace: 'bank' }] }), /not every destination/],
    [team, ruleDocument('all', { action: 'allow' }), /not every destination/],
    [team, ruleDocument('net', { action: 'allow', to: [{ cidr: '10.0.0.0/8' }] }), /not every destination/],
    [team, ruleDocument('both', { action: 'allow', to: [{ namespace: 'shop' }, { namespace: 'bank' }] }), /not every/],
    [team, kubernetesPolicy('bank'), /it is in the namespace bank/],
    [team, workloadDocument('bank', 'db', { ip: '198.18.1.3' }), /it is in the namespace bank/],
    [team, documents(ruleDocument('more', inShop), kubernetesPolicy('bank')), /it is in the namespace bank/],
    [team, meshWide('Mesh', 'default', { defaultAction: 'allow' }), /about the whole mesh/],
    [team, meshWide('Segment', 'all', { members: [{ namespace: 'shop' }] }), /about the whole mesh/],
    [team, meshWide('Namespace', 'shop', {}).replace(',"spec":{}', ''), /about the whole mesh/],
    [
      team,
      emergency('need', { priority: 0, to: [{ namespace: 'shop' }], ...until }),
      /breaking glass is a right of its own/,
    ],
    [rescue, emergency('need', { priority: 0, to: [{ namespace: 'shop' }], ...until }), null],
    [rescue, emergency('bank', { priority: 0, to: [{ namespace: 'bank' }], ...until }), /not every destination/],
    [rescue, emergency('ever', { priority: 0, to: [{ namespace: 'shop' }] }), /it is of the tier platform/],
    [tiers, ruleDocument('anywhere', { action: 'allow', to: [{ namespace: 'bank' }] }), null],
    [tiers, ruleDocument('base', { tier: 'baseline', action: 'deny' }), null],
    [tiers, ruleDocument('over', { tier: 'platform', priority: 5, action: 'allow' }), /it is of the tier platform/],
    [tiers, meshWide('Mesh', 'default', { defaultAction: 'allow' }), /about the whole mesh/],
    [whole, ruleDocument('guard', { tier: 'platform', action: 'deny', to: [{ namespace: 'shop' }], ports: [1] }), null],
    [whole, emergency('any', { priority: 0, ...until }), /breaking glass is a right of its own/],
  ];
  for (const [token, text, why] of cases) {
    for (const dryRun of [true, false]) {
      const answer = await callApi(controller, 'POST', '/v1/apply', { token, body: { documents: text, dryRun } });
      assert.equal(answer.status, why === null ? 200 : 403, `${text}: ${answer.text}`);
      if (why !== null) assert.match(answer.text, why);
      if (why !== null) assert.match(answer.text, /FORBIDDEN/);
    }
  }
  const remove = (token: string, name: string) =>
    callApi(controller, 'DELETE', `/v1/resources/SegmentationRule/-/${name}`, { token });
  assert.equal((await remove(team, 'guard')).status, 403);
  assert.equal((await remove(team, 'need')).status, 403);
  assert.equal((await remove(team, 'ours')).status, 200);
  assert.equal((await remove(rescue, 'need')).status, 200);
  const back = await callApi(controller, 'POST', '/v1/rollback', { token: team, body: { revision: 1 } });
  assert.equal(back.status, 403, back.text);
  // What stays as it is may be among the documents.
  const same = documents(ruleDocument('base', { tier: 'baseline', action: 'deny' }), ruleDocument('ours', inShop));
  const kept = await callApi(controller, 'POST', '/v1/apply', { token: team, body: { documents: same } });
  assert.equal(kept.status, 200, kept.text);
});

test('the command makes users with a scope, lists it, and users of an earlier version keep their rights', async () => {
  await using directory = await temporaryDirectory();
  const env = { CULVERT_CONTEXT: join(directory.path, 'admin.yaml') };
  {
    await using _ = await startedController(directory.path);
    const made = await culvert(
      ['user', 'create', 'team', '--role', 'editor', '--namespaces', 'shop,bank', '--tiers', 'team', '--break-glass'],
      { env },
    );
    assert.equal(made.code, 0, made.err);
    assert.equal((await culvert(['user', 'create', 'v', '--namespaces', 'shop'], { env })).code, 64);
    assert.equal((await culvert(['user', 'create', 'v', '--role', 'editor', '--tiers', 'tem'], { env })).code, 64);
    await culvert(['user', 'create', 'old', '--role', 'editor'], { env });
    const listed = await culvert(['user', 'list'], { env });
    assert.match(listed.out, /team +editor +namespaces shop, bank; tiers team; break glass/);
    assert.match(listed.out, /old +editor +everything {2}/);
  }
  const path = join(directory.path, 'users.json');
  const stored = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>[];
  for (const user of stored) if (user['name'] === 'old') for (const name of ['scope']) delete user[name];
  await writeFile(path, JSON.stringify(stored));
  await using _ = await startedController(directory.path);
  const listed = await culvert(['user', 'list'], { env });
  assert.match(listed.out, /old +editor +everything; break glass/);
});
