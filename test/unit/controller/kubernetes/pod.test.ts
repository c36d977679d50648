import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readPod } from '../../../../controller/kubernetes/pod.js';

type Fields = { metadata?: object; spec?: object; status?: object };

function podWith({ metadata, spec, status }: Fields = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'shop', name: 'web-1', uid: 'u-1', labels: { app: 'web' }, ...metadata },
    spec: { nodeName: 'n1', serviceAccountName: 'web', containers: [], ...spec },
    status: {
      phase: 'Running',
      podIPs: [{ ip: '10.1.0.4' }, { ip: 'fd00:0::4' }],
      conditions: [
        { type: 'PodScheduled', status: 'True' },
        { type: 'Ready', status: 'True' },
      ],
      ...status,
    },
  };
}

test('a pod is read as it runs', () => {
  assert.deepEqual(readPod(podWith()), {
    namespace: 'shop',
    name: 'web-1',
    uid: 'u-1',
    serviceAccount: 'web',
    labels: { app: 'web' },
    annotations: {},
    node: 'n1',
    addresses: ['10.1.0.4', 'fd00::4'],
    hostAddresses: [],
    ports: {},
    isReady: true,
    isEnding: false,
    isOnHost: false,
    isMirror: false,
    runtimeUid: 'u-1',
  });
});

test('a pod that has finished is none of the mesh, and one with the network of its host has only that of its node', () => {
  for (const phase of ['Succeeded', 'Failed']) assert.equal(readPod(podWith({ status: { phase } })), null);
  const onHost = readPod(podWith({ spec: { hostNetwork: true } }));
  assert.deepEqual([onHost?.isOnHost, onHost?.addresses, onHost?.hostAddresses], [true, [], ['10.1.0.4', 'fd00::4']]);
});

test('a pod that kubelet made of a file is known as one', () => {
  const annotations = { 'kubernetes.io/config.mirror': '0123' };
  assert.equal(readPod(podWith({ metadata: { annotations } }))?.isMirror, true);
});

test('a pod is known from its first moment to its last', () => {
  const fresh = { metadata: { namespace: 'shop', name: 'web-1', uid: 'u-1' }, spec: { containers: [{ name: 'web' }] } };
  const pending = readPod(fresh);
  assert.deepEqual(pending?.addresses, []);
  assert.equal(pending.node, null);
  assert.equal(pending.serviceAccount, 'default');
  assert.equal(pending.isReady, false);
  const ending = readPod(podWith({ metadata: { deletionTimestamp: '2026-11-29T12:00:00Z' } }));
  assert.equal(ending?.isEnding, true);
  assert.equal(ending.isReady, true, 'it serves until it ends');
  const unknown = readPod(
    podWith({ status: { phase: 'Unknown', conditions: [{ type: 'Ready', status: 'Unknown' }] } }),
  );
  assert.equal(unknown?.isReady, false);
});

test('named ports are those of containers and native sidecars, TCP only, and the first of a name counts', () => {
  const port = (name: string | undefined, containerPort: number, protocol?: string): object => ({
    containerPort,
    ...(name === undefined ? {} : { name }),
    ...(protocol === undefined ? {} : { protocol }),
  });
  const spec = {
    containers: [
      { ports: [port('http', 8080), port('dns', 53, 'UDP'), port(undefined, 9000)] },
      { ports: [port('http', 8081), port('metrics', 9090, 'TCP')] },
    ],
    initContainers: [
      { ports: [port('setup', 1)] },
      { restartPolicy: 'Always', ports: [port('proxy', 15001), port('http', 1)] },
    ],
  };
  assert.deepEqual(readPod(podWith({ spec }))?.ports, { http: 8080, metrics: 9090, proxy: 15001 });
});

test('what is no pod is an error, and null fields are absent', () => {
  assert.throws(() => readPod({ kind: 'Pod' }));
  assert.throws(() => readPod(podWith({ metadata: { name: 7 } })));
  const bare = podWith({ metadata: { labels: null }, spec: { containers: null, initContainers: null } });
  assert.deepEqual(readPod(bare)?.labels, {});
});
