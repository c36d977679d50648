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
const inTest = (to: string) => ({ from: '203.0.113.1', to, expect: 'deny' });
const inShop = { action: 'allow', to: [{ namespace: 'shop' }] };
const inHours = (hours: number): { readonly expiresAt: string } => ({
  expiresAt: new Date(Date.now() + hours * 3_600_000).toISOString(),
});
const until = inHours(1);

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
    [team, ruleDocument('ours', { ...inShop, tests: [inTest('shop/db:5432')] }), null],
    [
      team,
      ruleDocument('ours', { ...inShop, tests: [inTest('shop/db:1'), inTest('bank/db:1')] }),
      /in spec.tests names/,
    ],
    [team, ruleDocument('ours', { ...inShop, tests: [inTest('198.18.1.2:1')] }), /in spec.tests names/],
    [team, ruleDocument('ours', inShop), null],
    [team, ruleDocument('ours', { ...inShop, to: [{ workload: 'shop/db' }, { serviceAccount: 'shop/api' }] }), null],
    [team, kubernetesPolicy('shop'), null],
    [team, workloadDocument('shop', 'db', { ip: '198.18.1.2', node: 'host-a' }), null],
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
    [rescue, emergency('need', { priority: 0, to: [{ namespace: 'shop' }], ...inHours(23) }), null],
    [
      rescue,
      emergency('long', { priority: 0, to: [{ namespace: 'shop' }], ...inHours(25) }),
      /expires later than in 24 h, the most that the right to break glass allows/,
    ],
    [rescue, emergency('guard', { priority: 0, to: [{ namespace: 'shop' }], ...until }), /it is of the tier platform/],
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

const inNamespace = (kind: string, name: string, spec: object, apiVersion = 'culvert.dev/v1'): string =>
  JSON.stringify({ apiVersion, kind, metadata: { namespace: 'shop', name }, spec });
const workload = (name: string, ip: string, spec: object): string =>
  inNamespace('Workload', name, { addresses: [ip], node: 'host-a', netns: name, ...spec });
const plaintext = (name: string, spec: object): string =>
  inNamespace('PeerAuthentication', name, spec, 'security.istio.io/v1');

/** What an editor without the tier platform is refused, by what the refusal says. */
const unenforced: readonly (readonly [text: string, why: RegExp])[] = [
  [workload('db', '198.18.1.2', { capture: { excludeInboundPorts: [5432] } }), /what spec.capture excludes/],
  [workload('new', '198.18.1.9', { capture: { excludeOutboundPorts: [443] } }), /what spec.capture excludes/],
  [workload('new', '198.18.1.9', { capture: { excludeOutboundCidrs: ['0.0.0.0/0'] } }), /what spec.capture excludes/],
  [workload('batch', '198.18.1.3', {}), /what spec.capture excludes/],
  [workload('db', '198.18.1.2', { netns: undefined }), /without spec.node and spec.netns no agent/],
  [workload('db', '198.18.1.2', { netns: undefined, node: undefined }), /without spec.node and spec.netns no agent/],
  [workload('bank', '203.0.113.7', { netns: undefined, node: undefined }), /without spec.node and spec.netns no agent/],
  [workload('plain', '198.18.1.4', {}), /without spec.node and spec.netns no agent/],
  [workload('db', '198.18.1.2', { netns: 'elsewhere' }), /once spec.node or spec.netns is another/],
  [workload('db', '198.18.1.2', { node: 'host-b' }), /once spec.node or spec.netns is another/],
  [workload('new', '198.18.1.9', { netns: '/proc/1/ns/net' }), /no name under \/run\/netns/],
  [workload('new', '198.18.1.9', { netns: '/proc/1/root/run/netns/bank-db' }), /no name under \/run\/netns/],
  [workload('new', '198.18.1.9', { netns: '/run/netns/a/b' }), /no name under \/run\/netns/],
  [plaintext('strict', { mtls: { mode: 'PERMISSIVE' } }), /PERMISSIVE takes plaintext/],
  [plaintext('strict', { mtls: { mode: 'UNSET' } }), /what STRICT refused/],
  [
    plaintext('port', { selector: { matchLabels: { app: 'db' } }, portLevelMtls: { 80: { mode: 'PERMISSIVE' } } }),
    /PERMISSIVE takes plaintext/,
  ],
];
const undeletable = ['Workload/shop/db', 'Workload/shop/plain', 'PeerAuthentication/shop/strict'];
const harmless: readonly string[] = [
  workload('db', '198.18.1.2', { netns: '/var/run/netns/db', ports: [{ name: 'sql', port: 5432 }] }),
  workload('batch', '198.18.1.3', { capture: { excludeOutboundPorts: [443] }, serviceAccount: 'batch' }),
  workload('new', '198.18.1.9', { netns: '/var/run/netns/new' }),
  plaintext('more', { selector: { matchLabels: { app: 'db' } }, mtls: { mode: 'STRICT' } }),
];

test('an editor without the tier platform ends no enforcement, neither by changing, replacing nor deleting', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const strict = plaintext('strict', { mtls: { mode: 'STRICT' } });
  const present = documents(
    strict,
    workload('db', '198.18.1.2', {}),
    workload('batch', '198.18.1.3', { capture: { excludeOutboundPorts: [443] } }),
    workload('plain', '198.18.1.4', { node: undefined, netns: undefined }),
  );
  assert.equal((await apply(controller, present)).status, 200);
  const create = async (body: object): Promise<string> => {
    const answer = await callApi(controller, 'POST', '/v1/users', { body: { role: 'editor', ...body } });
    return (answer.body as UserCreatedAnswer).token;
  };
  const team = await create({ name: 'team', namespaces: ['shop'] });
  const tiers = await create({ name: 'tiers', tiers: ['team', 'baseline'] });
  const cleaner = await create({ name: 'cleaner', namespaces: ['shop'], deleteWorkloads: true });
  const platform = await create({ name: 'platform', namespaces: ['shop'], tiers: ['platform'] });
  const tried = (token: string, text: string) =>
    callApi(controller, 'POST', '/v1/apply', { token, body: { documents: text, dryRun: true } });
  for (const [text, why] of unenforced) {
    for (const token of [team, tiers]) {
      const refused = await tried(token, text);
      assert.equal(refused.status, 403, `${text}: ${refused.text}`);
      assert.match(refused.text, why);
      assert.match(refused.text, /so the change is of the tier platform/);
    }
    const taken = await tried(platform, text);
    assert.equal(taken.status, 200, `${text}: ${taken.text}`);
  }
  for (const path of undeletable) {
    const tryDelete = (token: string) => callApi(controller, 'DELETE', `/v1/resources/${path}?dryRun=true`, { token });
    for (const token of [team, tiers]) assert.equal((await tryDelete(token)).status, 403, path);
    assert.equal((await tryDelete(platform)).status, 200, path);
    // The right is for Workloads that have an agent, and for nothing else.
    assert.equal((await tryDelete(cleaner)).status, path === 'Workload/shop/db' ? 200 : 403, path);
  }
  for (const [text] of unenforced) assert.equal((await tried(cleaner, text)).status, 403, text);
  for (const text of harmless) {
    for (const token of [team, tiers, platform]) {
      const taken = await tried(token, text);
      assert.equal(taken.status, 200, `${text}: ${taken.text}`);
    }
  }
});

test('another name of a network namespace that has a workload is refused', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  assert.equal(
    (await apply(controller, workloadDocument('bank', 'db', { ip: '198.18.1.2', node: 'host-a' }))).status,
    200,
  );
  const made = await callApi(controller, 'POST', '/v1/users', {
    body: { name: 'team', role: 'editor', namespaces: ['shop'] },
  });
  const { token } = made.body as UserCreatedAnswer;
  for (const netns of ['db', '/run/netns/db', '/var/run/netns/db', '//run/netns/db', '/run/./netns//db/']) {
    const body = { documents: workload('thief', '198.18.1.9', { netns }) };
    const refused = await callApi(controller, 'POST', '/v1/apply', { token, body });
    assert.equal(refused.status, 422, `${netns}: ${refused.text}`);
    assert.match(refused.text, /on host-a belongs to Workload\/bank\/db already/);
  }
});

test("a team's test warns of a change of the tier platform and does not refuse it", async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const tests = [{ from: 'shop/api', to: 'shop/db:5432', expect: 'allow' }];
  const present = documents(
    workload('db', '198.18.1.2', {}),
    workload('api', '198.18.1.3', {}),
    ruleDocument('ours', { ...inShop, priority: 5, tests }),
  );
  assert.equal((await apply(controller, present)).status, 200);
  const closed = { action: 'deny', priority: 1, to: [{ namespace: 'shop' }] };
  const ofTeam = await apply(controller, ruleDocument('closed', closed));
  assert.equal(ofTeam.status, 422, ofTeam.text);
  const own = { ...closed, tier: 'platform', priority: 2, tests };
  const ofPlatform = await apply(controller, ruleDocument('own', own));
  assert.equal(ofPlatform.status, 422, ofPlatform.text);
  const hindering = emergency('need', { priority: 0, to: inShop.to, ports: [1], tests, ...until });
  assert.equal((await apply(controller, hindering)).status, 200);
  const mixed = documents(ruleDocument('closed', { ...closed, tier: 'platform' }), ruleDocument('more', inShop));
  assert.equal((await apply(controller, mixed)).status, 422);
  const warned = await apply(controller, ruleDocument('closed', { ...closed, tier: 'platform' }));
  assert.equal(warned.status, 200, warned.text);
  assert.match(warned.text, /SegmentationRule\/need.*\(the change is of a higher tier\)/);
  assert.match(warned.text, /SegmentationRule\/ours.*the test fails: .*\(the change is of a higher tier\)/);
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
