import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { Replicas } from '../../../../controller/kubernetes/replicas.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

/** What a controller that serves knows of the others. */
const pods = '/api/v1/namespaces/culvert-system/pods';
const labels = { 'app.kubernetes.io/name': 'culvert', 'app.kubernetes.io/component': 'controller' };
const lease = { name: 'culvert-controller', since: '2026-01-01T00:00:00.000Z', problem: () => null };
let server: FakeApiServer;
let api: KubernetesApi;

before(async () => {
  server = await FakeApiServer.start();
  const { url, caFile, tokenFile } = server;
  api = new KubernetesApi({ url, caFile, tokenFile });
});
after(async () => {
  api.close();
  await server[Symbol.asyncDispose]();
});

function put(name: string, o: { metadata?: object; node?: string; status?: object }): void {
  const metadata = { namespace: 'culvert-system', name, labels, ...o.metadata };
  server.put(pods, { metadata, spec: o.node === undefined ? {} : { nodeName: o.node }, status: o.status ?? {} });
}

const ready = (since: string) => ({
  phase: 'Running',
  conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: since }],
});

async function seen() {
  await using replicas = new Replicas({ api, namespace: 'culvert-system', lease, log: silentLog, podName: 'own' });
  return await eventually('the pods are listed', async () => {
    const { state } = replicas;
    return state.problem === 'they have not been listed yet' ? undefined : state;
  });
}

test('pods that are ready stand by, and of the others it is said why they cannot take over', async () => {
  put('own', { node: 'n1', status: ready('2026-01-01T00:00:01Z') });
  put('second', { node: 'n2', status: ready('2026-01-01T00:00:02Z') });
  put('pending', {
    status: { phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', message: '0/2 nodes' }] },
  });
  const waiting = { reason: 'CrashLoopBackOff', message: 'back-off 5m' };
  put('crashing', { node: 'n2', status: { phase: 'Running', containerStatuses: [{ state: { waiting } }] } });
  put('starting', { node: 'n2', status: { phase: 'Running', containerStatuses: [{ state: {} }] } });
  put('ending', { metadata: { deletionTimestamp: '2026-01-01T00:00:03Z' }, status: ready('2026-01-01T00:00:02Z') });
  put('evicted', { node: 'n2', status: { phase: 'Failed' } });
  put('agent', { metadata: { labels: { ...labels, 'app.kubernetes.io/component': 'agent' } }, status: ready('') });
  assert.deepEqual(await seen(), {
    lease: 'culvert-controller',
    serving: { name: 'own', node: 'n1', since: '2026-01-01T00:00:00.000Z' },
    standingBy: [{ name: 'second', node: 'n2', since: '2026-01-01T00:00:02Z' }],
    notReady: [
      { name: 'pending', node: null, why: '0/2 nodes' },
      { name: 'crashing', node: 'n2', why: 'CrashLoopBackOff: back-off 5m' },
      { name: 'starting', node: 'n2', why: 'it is not ready yet' },
    ],
    problem: null,
    leaseProblem: null,
  });
});

test('what cannot be listed is not taken for what was seen before', async () => {
  server.refuse(pods, 403);
  try {
    const { standingBy, notReady, problem } = await seen();
    assert.deepEqual([standingBy, notReady], [[], []]);
    assert.match(problem ?? '', /^they cannot be listed: the Kubernetes API answered 403/);
  } finally {
    server.refuse(pods, null);
  }
});
