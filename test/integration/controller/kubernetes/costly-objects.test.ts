import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { CostlyObjects } from '../../../../controller/kubernetes/costly-objects.js';
import { ClusterRules, type RuleStore } from '../../../../controller/kubernetes/cluster-rules.js';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { ownRuleKind } from '../../../../controller/kubernetes/rule-object.js';
import type { StoredResource } from '../../../../controller/inventory/stored-resource.js';
import { emptyState } from '../../../../controller/release/committed-state.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import { resourceKey } from '../../../../controller/resources/kinds/resource-key.js';
import type { ClusterRequest } from '../../../../controller/store/cluster-change.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

const path = '/apis/culvert.dev/v1/segments';

function segment(name: string, namespace: string) {
  const spec = { members: [{ namespace }] };
  return { apiVersion: 'culvert.dev/v1', kind: 'Segment', metadata: { name }, spec };
}

/** Takes everything but what is called `costly…`, which makes the checks take too long. */
class OneIsCostly implements RuleStore {
  readonly requests: ClusterRequest[] = [];
  readonly #resources = new Map<string, StoredResource>();
  #revision = 1;
  readonly inventorySequence = 1;

  get state() {
    return { ...emptyState, revision: this.#revision, resources: this.#resources };
  }

  async takeCluster(request: ClusterRequest) {
    this.requests.push(request);
    const refused = new Map<string, []>();
    for (const resource of request.puts) {
      const key = resourceKey(resource);
      if (resource.metadata.name.startsWith('costly')) refused.set(key, []);
      else {
        const revision = ++this.#revision;
        const appliedAt = new Date().toISOString();
        this.#resources.set(key, { key, resource, revision, appliedAt, appliedBy: 'kubernetes', origin: 'cluster' });
      }
    }
    return { revision: this.#revision, refused, costly: new Set(refused.keys()) };
  }

  namesOf({ puts }: ClusterRequest): string[] {
    return puts.map(({ metadata }) => metadata.name);
  }
}

test('an object that takes too long is tried by itself, and does not hold up others however often it changes', async () => {
  await using server = await FakeApiServer.start();
  server.put(path, segment('costly', 'a0'));
  server.put(path, segment('good', 'a0'));
  const store = new OneIsCostly();
  const api = new KubernetesApi(server);
  const facts = { enforcedRevisions: () => [], warnings: () => new Map() };
  {
    await using rules = new ClusterRules({
      api,
      kinds: [ownRuleKind('Segment')],
      store,
      facts,
      log: silentLog,
      nowMs: Date.now,
      backoff: { firstMs: 20, longestMs: 100 },
    });
    rules.start();
    await eventually('both were tried', async () => store.requests.length > 0 || undefined);
    const { length } = store.requests;
    for (let change = 1; change <= 40; change++) {
      server.put(path, segment('costly', `a${change}`));
      if (change % 10 === 0) server.put(path, segment('good', `a${change}`));
      await delay(100);
    }
    await eventually(
      'the last change of the good one is taken',
      async () =>
        JSON.stringify(store.state.resources.get('Segment.-.good')?.resource.spec).includes('a40') || undefined,
    );
    const later = store.requests.slice(length).map((request) => store.namesOf(request));
    assert.ok(later.length > 0);
    for (const names of later) assert.deepEqual(names, ['good']);
    await eventually(
      'it is told',
      async () => rules.state.warnings.some((text) => text.includes('costly')) || undefined,
    );
  }
  api.close();
});

test('costly objects are tried in turn, and the less often the more often one took too long', () => {
  let nowMs = 0;
  const costly = new CostlyObjects({ elapsedMs: () => nowMs });
  const object = (name: string, namespace: string) => segment(name, namespace) as unknown as Resource;
  const remember = (resource: Resource, isCostly: boolean) => {
    const key = resourceKey(resource);
    costly.remember([resource], { refused: new Map([[key, []]]), costly: new Set(isCostly ? [key] : []) });
  };
  const [a, b] = [object('a', 'one'), object('b', 'one')];
  remember(a, true);
  nowMs = 1000;
  remember(b, true);
  const changed = [object('a', 'two'), object('b', 'two')];
  const due = () => costly.due(changed)?.resource.metadata.name ?? null;
  assert.equal(due(), null);
  nowMs = 10_000;
  assert.equal(due(), 'a');
  remember(object('a', 'two'), true);
  nowMs = 11_000;
  assert.equal(due(), 'b');
  remember(object('b', 'three'), true);
  // The second time it took too long: twice the pause.
  nowMs = 29_999;
  changed[0] = object('a', 'four');
  changed[1] = object('b', 'four');
  assert.equal(due(), null);
  nowMs = 30_000;
  assert.equal(due(), 'a');
  remember(object('a', 'four'), false);
  assert.equal(costly.has('Segment.-.a'), false);
  // One that does not change is tried again after ten minutes.
  remember(b, true);
  assert.equal(costly.due([b]), null);
  nowMs += 600_000;
  assert.deepEqual(costly.due([b]), { resource: b, isChanged: false });
});
