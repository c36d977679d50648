import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import type { HistoryItem, ResourceItem, StatusAnswer } from '../../../../controller/api/api-types.js';
import type { RunningController } from '../../../../controller/app.js';
import {
  callApi,
  eventually,
  startedController,
  temporaryDirectory,
} from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

const group = '/apis/culvert.dev/v1';
const [rules, segments, policies] = [
  `${group}/segmentationrules`,
  `${group}/segments`,
  `${group}/authorizationpolicies`,
];
const kinds = [
  rules,
  segments,
  policies,
  `${group}/meshes`,
  `${group}/serviceentries`,
  `${group}/destinationrules`,
  `${group}/peerauthentications`,
];

type Condition = { readonly type: string; readonly status: string; readonly reason: string; readonly message: string };

/** A controller that follows a cluster. */
class Followed implements AsyncDisposable {
  readonly server: FakeApiServer;
  controller: RunningController;
  readonly #stateDir: string;
  readonly #directory: Awaited<ReturnType<typeof temporaryDirectory>>;

  private constructor(init: {
    server: FakeApiServer;
    controller: RunningController;
    stateDir: string;
    directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  }) {
    this.server = init.server;
    this.controller = init.controller;
    this.#stateDir = init.stateDir;
    this.#directory = init.directory;
  }

  static async start(
    prepare: (server: FakeApiServer) => void = () => undefined,
    policies: readonly string[] | null = null,
  ): Promise<Followed> {
    const directory = await temporaryDirectory();
    const server = await FakeApiServer.start();
    prepare(server);
    const stateDir = path.join(directory.path, 'controller');
    return new Followed({ server, controller: await started(stateDir, server, policies), stateDir, directory });
  }

  async restart(): Promise<void> {
    await this.controller[Symbol.asyncDispose]();
    this.controller = await started(this.#stateDir, this.server);
  }

  /** Names of the rules in force, with where they are from. */
  get names(): Readonly<Record<string, string>> {
    const stored = [...this.controller.store.release.state.resources.values()];
    return Object.fromEntries(stored.map(({ key, origin = 'documents' }) => [key, origin]));
  }

  get revision(): number {
    return this.controller.store.release.state.revision;
  }

  async has(expected: Readonly<Record<string, string>>): Promise<void> {
    await eventually('the rules are those that are expected', async () =>
      JSON.stringify(sorted(this.names)) === JSON.stringify(sorted(expected)) ? true : undefined,
    ).catch(() => assert.deepEqual(this.names, expected));
  }

  /** The condition of an object, when it has this status. */
  async condition(kind: string, key: string, type: string, status: string): Promise<Condition> {
    return eventually(`${key} has ${type}=${status}`, async () =>
      this.conditions(kind, key).find((each) => each.type === type && each.status === status),
    ).catch(() => assert.fail(`${type} of ${key}: ${JSON.stringify(this.conditions(kind, key))}`));
  }

  conditions(kind: string, key: string): readonly Condition[] {
    const { conditions = [] } = (this.server.get(kind, key)?.['status'] ?? {}) as { conditions?: Condition[] };
    return conditions;
  }

  apply(documents: object | string): Promise<{ readonly status: number; readonly text: string }> {
    const text = typeof documents === 'string' ? documents : JSON.stringify(documents);
    return callApi(this.controller, 'POST', '/v1/apply', { body: { documents: text } });
  }

  async status(): Promise<StatusAnswer> {
    return (await callApi(this.controller, 'GET', '/v1/status')).body as StatusAnswer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.controller[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
    await this.#directory[Symbol.asyncDispose]();
  }
}

function started(
  stateDir: string,
  server: FakeApiServer,
  kubernetesPolicies: readonly string[] | null = null,
): Promise<RunningController> {
  return startedController(stateDir, {
    changes: {
      kubernetesApi: server.url.origin,
      kubernetesCaFile: server.caFile,
      kubernetesTokenFile: server.tokenFile,
      kubernetesPolicies,
    },
  });
}

function sorted(names: Readonly<Record<string, string>>): readonly (readonly [string, string])[] {
  return Object.entries(names).sort(([a], [b]) => (a < b ? -1 : 1));
}

let generation = 0;
function rule(name: string, spec: object = { action: 'allow', ports: [80] }) {
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name, uid: `uid-${name}`, generation: ++generation, managedFields: [{}], creationTimestamp: 'now' },
    spec,
  };
}

function segment(name: string) {
  const spec = { members: [{ namespace: 'billing' }] };
  return { apiVersion: 'culvert.dev/v1', kind: 'Segment', metadata: { name, generation: ++generation }, spec };
}

function document(name: string, spec: object = { action: 'deny', ports: [22] }) {
  return { apiVersion: 'culvert.dev/v1', kind: 'SegmentationRule', metadata: { name }, spec };
}

test('an object of the cluster is a rule within a moment, shows that it is in force, and goes with the object', async () => {
  await using followed = await Followed.start();
  const { server } = followed;
  server.put(rules, rule('web'));
  server.put(policies, {
    apiVersion: 'culvert.dev/v1',
    kind: 'AuthorizationPolicy',
    metadata: { namespace: 'shop', name: 'none', generation: 1, annotations: { [lastApplied]: '{}' } },
    spec: {},
  });
  await followed.has({ 'SegmentationRule.-.web': 'cluster', 'AuthorizationPolicy.shop.none': 'cluster' });
  const answer = await callApi(followed.controller, 'GET', '/v1/resources/SegmentationRule/web');
  const { origin, appliedBy, resource } = answer.body as ResourceItem;
  assert.deepEqual([origin, appliedBy, resource.metadata], ['cluster', 'kubernetes', { name: 'web' }]);
  const accepted = await followed.condition(rules, '/web', 'Accepted', 'True');
  assert.equal(accepted.message, 'it is among the rules');
  // No agent has joined.
  assert.equal((await followed.condition(rules, '/web', 'InForce', 'False')).reason, 'NoAgents');
  const { observedGeneration, agents } = (server.get(rules, '/web')?.['status'] ?? {}) as Record<string, unknown>;
  assert.deepEqual([observedGeneration, agents], [server.get(rules, '/web')?.metadata['generation'], '0/0']);
  await followed.condition(policies, 'shop/none', 'Accepted', 'True');
  server.remove(rules, '/web');
  await followed.has({ 'AuthorizationPolicy.shop.none': 'cluster' });
  const history = (await callApi(followed.controller, 'GET', '/v1/history')).body as HistoryItem[];
  assert.deepEqual([history[0]?.by, history[0]?.changes[0]?.change], ['kubernetes', 'deleted']);
  assert.deepEqual((await followed.status()).kubernetes?.rules, { objects: 1, taken: 1, problems: [], warnings: [] });
});

const lastApplied = 'kubectl.kubernetes.io/last-applied-configuration';

test('a status is written once, and its own event causes no other', async () => {
  await using followed = await Followed.start((server) => server.put(rules, rule('web')));
  const { server } = followed;
  await followed.condition(rules, '/web', 'Accepted', 'True');
  const { revision } = followed;
  const written = server.patches.filter(({ path }) => path.endsWith('/status'));
  assert.ok(written.length <= 2, String(written.length));
  await new Promise((resolve) => setTimeout(resolve, 3500));
  assert.equal(server.patches.filter(({ path }) => path.endsWith('/status')).length, written.length);
  assert.equal(followed.revision, revision);
});

test('what is wrong with one object stops no other, and its last good version stays', async () => {
  await using followed = await Followed.start((server) => {
    server.put(rules, rule('good'));
    server.put(rules, rule('misspelt', { action: 'allow', form: [{ namespace: 'shop' }] }));
    server.put(rules, rule('dangling', { action: 'allow', from: [{ segment: 'batch' }] }));
  });
  const { server } = followed;
  await followed.has({ 'SegmentationRule.-.good': 'cluster' });
  const misspelt = await followed.condition(rules, '/misspelt', 'Accepted', 'False');
  assert.deepEqual(
    [misspelt.reason, misspelt.message],
    ['Invalid', 'spec.form: is not a field here (did you mean "from"?)'],
  );
  const dangling = await followed.condition(rules, '/dangling', 'Accepted', 'False');
  assert.equal(dangling.reason, 'Refused');
  assert.match(dangling.message, /^spec\.from\[0\]\.segment: there is no Segment "batch"/);
  // What was missing comes.
  server.put(segments, segment('batch'));
  await followed.condition(rules, '/dangling', 'Accepted', 'True');
  server.put(rules, rule('good', { action: 'perhaps' }));
  const bad = await followed.condition(rules, '/good', 'Accepted', 'False');
  assert.match(bad.message, /; its last good version stays in force$/);
  assert.equal((await followed.condition(rules, '/good', 'InForce', 'False')).reason, 'EarlierVersion');
  await followed.has({
    'SegmentationRule.-.good': 'cluster',
    'SegmentationRule.-.dangling': 'cluster',
    'Segment.-.batch': 'cluster',
  });
  const { warnings = [] } = (await followed.status()).kubernetes?.rules ?? {};
  assert.equal(warnings.length, 2);
  // A segment that is named stays, and goes with the last that names it.
  server.remove(segments, '/batch');
  await eventually('it is told', async () => {
    const told = (await followed.status()).kubernetes?.rules?.warnings ?? [];
    return told.some((text) => text.startsWith('Segment/batch was deleted in the cluster, and stays in force'));
  });
  assert.ok('Segment.-.batch' in followed.names);
  server.remove(rules, '/dangling');
  await followed.has({ 'SegmentationRule.-.good': 'cluster' });
});

test('an object that cannot be read any more stays as it was taken, loudly, until it is deleted', async () => {
  await using followed = await Followed.start((server) => {
    server.put(rules, rule('odd'));
    server.put(rules, rule('good'));
  });
  const { server } = followed;
  const both = { 'SegmentationRule.-.odd': 'cluster', 'SegmentationRule.-.good': 'cluster' } as const;
  await followed.has(both);
  const read = rule('odd');
  server.put(rules, { ...read, metadata: { ...read.metadata, annotations: { a: 1 } } });
  const isTold = () =>
    eventually('it is told', async () => {
      const { problems = [] } = (await followed.status()).kubernetes?.rules ?? {};
      return (
        problems.some((text) => text.startsWith('SegmentationRule/odd in the cluster cannot be understood')) ||
        undefined
      );
    });
  await isTold();
  server.put(rules, rule('later'));
  await followed.has({ ...both, 'SegmentationRule.-.later': 'cluster' });
  server.remove(rules, '/later');
  await followed.has(both);
  await followed.restart();
  await isTold();
  server.put(rules, rule('later'));
  await followed.has({ ...both, 'SegmentationRule.-.later': 'cluster' });
  server.remove(rules, '/odd');
  server.remove(rules, '/later');
  await followed.has({ 'SegmentationRule.-.good': 'cluster' });
});

test('the same name from both sides is refused, and both are told', async () => {
  await using followed = await Followed.start();
  const { server } = followed;
  assert.equal((await followed.apply(document('both'))).status, 200);
  server.put(rules, rule('both'));
  const conflict = await followed.condition(rules, '/both', 'Accepted', 'False');
  assert.equal(conflict.reason, 'Conflict');
  assert.match(conflict.message, /conflicts with a document of the same name, which admin applied at revision \d+/);
  assert.match(
    (await followed.status()).kubernetes?.rules?.warnings.join() ?? '',
    /SegmentationRule\/both in the cluster/,
  );
  assert.deepEqual(followed.names, { 'SegmentationRule.-.both': 'documents' });
  // The document goes, and the object takes its place.
  await callApi(followed.controller, 'DELETE', '/v1/resources/SegmentationRule/-/both');
  await followed.has({ 'SegmentationRule.-.both': 'cluster' });
  await followed.condition(rules, '/both', 'Accepted', 'True');
  const refused = await followed.apply(document('both'));
  assert.equal(refused.status, 422);
  assert.match(refused.text, /is a custom resource of the cluster, and is changed there only/);
  assert.match(refused.text, /kubectl delete segmentationrules\.culvert\.dev both/);
});

test('changes of documents leave what is of the cluster as it is', async () => {
  await using followed = await Followed.start((server) => server.put(rules, rule('of-cluster')));
  const { server, controller } = followed;
  await followed.has({ 'SegmentationRule.-.of-cluster': 'cluster' });
  await followed.apply(document('one'));
  const { revision } = followed;
  await followed.apply(document('two'));
  server.put(rules, rule('later'));
  await followed.has({
    'SegmentationRule.-.of-cluster': 'cluster',
    'SegmentationRule.-.later': 'cluster',
    'SegmentationRule.-.one': 'documents',
    'SegmentationRule.-.two': 'documents',
  });
  const deleted = await callApi(controller, 'DELETE', '/v1/resources/SegmentationRule/-/of-cluster');
  assert.equal(deleted.status, 422);
  const rolledBack = await callApi(controller, 'POST', '/v1/rollback', { body: { revision } });
  assert.equal(rolledBack.status, 200);
  assert.deepEqual(sorted(followed.names), [
    ['SegmentationRule.-.later', 'cluster'],
    ['SegmentationRule.-.of-cluster', 'cluster'],
    ['SegmentationRule.-.one', 'documents'],
  ]);
  // A document of the revision whose name the cluster has now is not restored over it.
  await callApi(controller, 'DELETE', '/v1/resources/SegmentationRule/-/one');
  server.put(rules, rule('one'));
  await followed.has({
    'SegmentationRule.-.of-cluster': 'cluster',
    'SegmentationRule.-.later': 'cluster',
    'SegmentationRule.-.one': 'cluster',
  });
  assert.equal((await callApi(controller, 'POST', '/v1/rollback', { body: { revision } })).status, 422);
});

test('an API server that is away costs freshness, and a restart without it no rule', async () => {
  await using followed = await Followed.start((server) => server.put(rules, rule('kept')));
  const { server } = followed;
  await followed.has({ 'SegmentationRule.-.kept': 'cluster' });
  server.status = 503;
  server.dropWatches();
  await followed.restart();
  assert.deepEqual(followed.names, { 'SegmentationRule.-.kept': 'cluster' });
  assert.equal((await followed.apply(document('meanwhile'))).status, 200);
  await eventually('it is told', async () =>
    ((await followed.status()).kubernetes?.rules?.problems.length ?? 0) > 0 ? true : undefined,
  );
  assert.deepEqual(followed.names, {
    'SegmentationRule.-.kept': 'cluster',
    'SegmentationRule.-.meanwhile': 'documents',
  });
  server.status = null;
  server.put(rules, rule('new'));
  server.remove(rules, '/kept');
  await followed.has({ 'SegmentationRule.-.new': 'cluster', 'SegmentationRule.-.meanwhile': 'documents' });
});

test('watches that end, and a past that is forgotten (410), lose no change', async () => {
  await using followed = await Followed.start((server) => server.put(rules, rule('a')));
  const { server } = followed;
  await followed.has({ 'SegmentationRule.-.a': 'cluster' });
  server.dropWatches();
  server.put(rules, rule('b'));
  await followed.has({ 'SegmentationRule.-.a': 'cluster', 'SegmentationRule.-.b': 'cluster' });
  server.remove(rules, '/a');
  server.compact();
  await followed.has({ 'SegmentationRule.-.b': 'cluster' });
});

test('kinds that the cluster does not have are no problem, and count when they come; without them their rules stay', async () => {
  await using followed = await Followed.start((server) => {
    for (const kind of kinds) server.refuse(kind, 404);
    server.put(rules, rule('web'));
  });
  const { server } = followed;
  await eventually('they were asked for', async () => server.heard.some((line) => line.includes(rules)));
  assert.deepEqual((await followed.status()).kubernetes?.rules, { objects: 0, taken: 0, problems: [], warnings: [] });
  for (const kind of kinds) server.refuse(kind, null);
  await followed.has({ 'SegmentationRule.-.web': 'cluster' });
  for (const kind of kinds) server.refuse(kind, 404);
  server.dropWatches();
  await followed.restart();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.deepEqual(followed.names, { 'SegmentationRule.-.web': 'cluster' });
});

test('a definition that is deleted takes no rule out, although the API server deletes all its objects first', async () => {
  await using followed = await Followed.start((server) => {
    server.put(rules, rule('a'));
    server.put(rules, rule('b'));
    server.put(segments, segment('batch'));
  });
  const { server } = followed;
  const all = { 'SegmentationRule.-.a': 'cluster', 'SegmentationRule.-.b': 'cluster' } as const;
  await followed.has({ ...all, 'Segment.-.batch': 'cluster' });
  const told = (part: RegExp, which: 'warnings' | 'problems') =>
    eventually(`it is told: ${String(part)}`, async () =>
      (await followed.status()).kubernetes?.rules?.[which].some((text) => part.test(text)) === true ? true : undefined,
    );
  server.deleteDefinition(rules);
  // Another kind goes on.
  server.remove(segments, '/batch');
  await followed.has(all);
  await told(
    /^the cluster deletes the definition segmentationrules\.culvert\.dev: what was taken .* stays/,
    'warnings',
  );
  await new Promise((resolve) => setTimeout(resolve, 2500));
  assert.deepEqual(sorted(followed.names), sorted(all));
  server.refuse(rules, 404);
  server.dropWatches();
  await told(/^the cluster has no SegmentationRule \(culvert\.dev\/v1\) any more/, 'warnings');
  assert.deepEqual(sorted(followed.names), sorted(all));
  // It comes again, with a part of what there was: the rest stays until people say that it was meant to go.
  server.define(rules);
  server.put(rules, rule('a'));
  const again =
    /^the definition segmentationrules\.culvert\.dev was made again at 2.*, without SegmentationRule\/b: what/;
  await told(again, 'warnings');
  await new Promise((resolve) => setTimeout(resolve, 2500));
  assert.deepEqual(sorted(followed.names), sorted(all));
  server.put(rules, rule('c'));
  await followed.has({ ...all, 'SegmentationRule.-.c': 'cluster' });
  server.remove(rules, '/c');
  await followed.has(all);
  await followed.restart();
  await told(again, 'warnings');
  assert.deepEqual(sorted(followed.names), sorted(all));
  server.annotateDefinition(rules, 'culvert.dev/confirm-deletions', 'uid-first');
  await new Promise((resolve) => setTimeout(resolve, 2500));
  assert.deepEqual(sorted(followed.names), sorted(all), 'that was about another definition');
  server.annotateDefinition(rules, 'culvert.dev/confirm-deletions', 'UID');
  await followed.has({ 'SegmentationRule.-.a': 'cluster' });
  // Whether it is there cannot be asked: deletions wait, and take effect when it can.
  const definition = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/segmentationrules.culvert.dev';
  server.refuse(definition, 403);
  server.remove(rules, '/a');
  await told(/^deletions of SegmentationRule wait, .* must allow "get" of customresourcedefinitions/, 'problems');
  assert.deepEqual(followed.names, { 'SegmentationRule.-.a': 'cluster' });
  server.refuse(definition, null);
  await followed.has({});
  const { problems = [] } = (await followed.status()).kubernetes?.rules ?? {};
  assert.ok(!problems.some((text) => text.startsWith('deletions')), problems.join());
});

test('an object that changes all the time makes few revisions', async () => {
  await using followed = await Followed.start((server) => server.put(rules, rule('web')));
  const { server } = followed;
  await followed.has({ 'SegmentationRule.-.web': 'cluster' });
  const before = followed.revision;
  for (let port = 1000; port < 1030; port++) {
    server.put(rules, rule('web', { action: 'allow', ports: [port] }));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await eventually('the last one is in force', async () => {
    const stored = followed.controller.store.release.state.resources.get('SegmentationRule.-.web');
    return JSON.stringify(stored?.resource.spec).includes('1029') ? true : undefined;
  });
  assert.ok(followed.revision - before <= 5, String(followed.revision - before));
});

test('policies of Kubernetes and Istio are taken when asked for, are never written, and go when they are not', async () => {
  const [network, istio] = [
    '/apis/networking.k8s.io/v1/networkpolicies',
    '/apis/security.istio.io/v1/authorizationpolicies',
  ];
  const place = { namespace: 'shop', name: 'closed', generation: 1 };
  const policy = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: place };
  const authorization = { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', metadata: place, spec: {} };
  const http = { rules: [{ to: [{ operation: { methods: ['GET'] } }] }] };
  await using followed = await Followed.start(
    (server) => {
      server.put('/api/v1/namespaces', { kind: 'Namespace', metadata: { name: 'shop', labels: { team: 'a' } } });
      server.put(network, { ...policy, spec: { podSelector: {}, policyTypes: ['Ingress'] }, status: {} });
      server.put(istio, authorization);
      server.put(istio, { ...authorization, metadata: { ...place, name: 'http' }, spec: http });
    },
    ['NetworkPolicy', 'AuthorizationPolicy', 'Namespace'],
  );
  const { server } = followed;
  await followed.has({
    'NetworkPolicy.shop.closed': 'cluster',
    'AuthorizationPolicy.shop.closed': 'cluster',
    'Namespace.-.shop': 'cluster',
  });
  const told = (await followed.status()).kubernetes?.rules?.warnings ?? [];
  assert.match(told.join(), /^AuthorizationPolicy\/shop\/http in the cluster: .*needs HTTP/);
  // Ours of the same name counts, and the other is told.
  server.put(policies, { ...authorization, apiVersion: 'culvert.dev/v1', spec: { action: 'DENY' } });
  await followed.condition(policies, 'shop/closed', 'Accepted', 'True');
  const both = (await followed.status()).kubernetes?.rules?.warnings.join() ?? '';
  assert.match(both, /AuthorizationPolicy\/shop\/closed in the cluster: the cluster has another object/);
  assert.ok(server.patches.every(({ path }) => !path.startsWith(network) && !path.startsWith('/apis/security')));
  await followed.restart();
  await followed.has({ 'AuthorizationPolicy.shop.closed': 'cluster' });
});

test('routes of Istio and the Gateway API are taken, from the version that a cluster has, and those of gateways are not', async () => {
  const at = (version: string) => `/apis/gateway.networking.k8s.io/${version}/tcproutes`;
  const istio = '/apis/networking.istio.io/v1';
  const metadata = (name: string) => ({ namespace: 'shop', name, generation: 1 });
  const parent = { group: '', kind: 'Service', name: 'web' };
  const edge = { name: 'edge', sectionName: 'tcp' };
  const rulesOf = [{ backendRefs: [{ name: 'web-v2', port: 80 }] }];
  const route = (version: string, name: string, ...parentRefs: readonly object[]) => ({
    apiVersion: `gateway.networking.k8s.io/${version}`,
    kind: 'TCPRoute',
    metadata: metadata(name),
    spec: { parentRefs, rules: rulesOf },
    status: { parents: [] },
  });
  const virtual = (name: string, spec: object) => ({
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: metadata(name),
    spec,
  });
  const subset = { route: [{ destination: { host: 'api', subset: 'v1' } }] };
  await using followed = await Followed.start(
    (server) => {
      server.serve(at('v1'), false);
      server.put(at('v1alpha2'), route('v1alpha2', 'web', edge, parent));
      server.put(at('v1alpha2'), route('v1alpha2', 'edge', edge));
      server.put(`${istio}/destinationrules`, {
        apiVersion: 'networking.istio.io/v1',
        kind: 'DestinationRule',
        metadata: metadata('api'),
        spec: { host: 'api', subsets: [{ name: 'v1', labels: { version: 'v1' } }] },
      });
      server.put(
        `${istio}/virtualservices`,
        virtual('api', { hosts: ['api'], gateways: ['mesh', 'edge'], tcp: [subset] }),
      );
      server.put(`${istio}/virtualservices`, virtual('edge', { hosts: ['api'], gateways: ['edge'], tcp: [subset] }));
      server.put(`${istio}/virtualservices`, virtual('http', { hosts: ['other'], http: [subset] }));
    },
    ['VirtualService', 'DestinationRule', 'TCPRoute', 'ReferenceGrant'],
  );
  const { server } = followed;
  const all = {
    'DestinationRule.shop.api': 'cluster',
    'TCPRoute.shop.web': 'cluster',
    'VirtualService.shop.api': 'cluster',
  };
  await followed.has(all);
  const stored = followed.controller.store.release.state.resources.get('TCPRoute.shop.web')?.resource;
  assert.deepEqual(stored?.spec, { parentRefs: [parent], rules: rulesOf });
  // Until NATS is connected, which may be after the first try, that is a problem.
  const { warnings } = await eventually('no problem is left', async () => {
    const { rules } = (await followed.status()).kubernetes ?? {};
    return rules?.problems.length === 0 ? rules : undefined;
  });
  assert.match(warnings.join('\n'), /^VirtualService\/shop\/http in the cluster: [^\n]*http[^\n]*$/);
  // A new release of the definitions serves another version only: nothing goes, and changes still come.
  const { revision } = followed;
  server.put(at('v1'), route('v1', 'web', edge, parent));
  server.serve(at('v1'), true);
  server.serve(at('v1alpha2'), false);
  server.dropWatches();
  await eventually('the other version is followed', async () =>
    server.heard.some((line) => line.includes(`${at('v1')}?watch`)) ? true : undefined,
  );
  await followed.has(all);
  assert.equal(followed.revision, revision);
  server.put(at('v1'), route('v1', 'web', edge));
  await followed.has({ 'DestinationRule.shop.api': 'cluster', 'VirtualService.shop.api': 'cluster' });
  assert.ok(server.patches.every(({ path: to }) => !/istio|gateway/.test(to)));
});
