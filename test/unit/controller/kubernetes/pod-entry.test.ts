import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../../../../controller/kubernetes/pod.js';
import { podEntry } from '../../../../controller/kubernetes/pod-entry.js';
import type { ClusterService } from '../../../../controller/kubernetes/service.js';
import { serviceEntry } from '../../../../controller/kubernetes/service-entry.js';
import { ip } from '../../../support/routing/registry-entries.js';

const pod: Pod = {
  namespace: 'shop',
  name: 'web-1',
  uid: 'u-1',
  serviceAccount: 'web',
  labels: { app: 'web' },
  annotations: {},
  node: 'n1',
  addresses: [ip('10.1.0.4')],
  hostAddresses: [],
  ports: { http: 8080 },
  isReady: true,
  isEnding: false,
  isOnHost: false,
  isMirror: false,
  runtimeUid: 'uid-1',
};
const enrolled = { isEnrolled: true, trustDomain: 'mesh.test', locality: null };
const capture = { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] };

test('a pod in the mesh is a workload of its node, in the sandbox that its UID names', () => {
  assert.deepEqual(podEntry(pod, enrolled), {
    entry: {
      kind: 'workload',
      namespace: 'shop',
      name: 'web-1',
      serviceAccount: 'web',
      identity: 'spiffe://mesh.test/ns/shop/sa/web',
      labels: { app: 'web' },
      addresses: ['10.1.0.4'],
      node: 'n1',
      netns: 'pod:u-1',
      protocol: 'hbone',
      capture,
      ports: { http: 8080 },
    },
    problems: [],
  });
});

test('outside the mesh it is reached in plaintext, and nothing of it is captured', () => {
  const annotations = { 'culvert.dev/exclude-inbound-ports': '22' };
  const { entry } = podEntry({ ...pod, annotations }, { ...enrolled, isEnrolled: false });
  assert.ok(entry);
  assert.deepEqual([entry.node, entry.netns, entry.protocol, entry.capture], [null, null, 'tcp', capture]);
});

test('it is known as soon as it has a node, and outside the mesh as soon as it has an address', () => {
  const scheduled = { ...pod, addresses: [] };
  assert.deepEqual(podEntry(scheduled, enrolled).entry?.addresses, []);
  assert.equal(podEntry(scheduled, { ...enrolled, isEnrolled: false }).entry, null);
  assert.equal(podEntry({ ...scheduled, node: null }, enrolled).entry, null);
});

test('its readiness says whether services use it', () => {
  const availability = (isReady: boolean, isEnding: boolean): string | undefined =>
    podEntry({ ...pod, isReady, isEnding }, enrolled).entry?.availability;
  assert.equal(availability(true, false), undefined);
  assert.equal(availability(false, false), 'unready');
  assert.equal(availability(true, true), 'ending');
  assert.equal(availability(false, true), 'unready');
});

test('annotations exclude ports and networks, and what cannot be read excludes nothing and is told', () => {
  const annotations = {
    'culvert.dev/exclude-inbound-ports': '22, 9090,',
    'culvert.dev/exclude-outbound-ports': 'ssh,70000,0,25',
    'culvert.dev/exclude-outbound-cidrs': '10.0.0.0/8, 10.0.0.1/8',
  };
  const { entry, problems } = podEntry({ ...pod, annotations }, enrolled);
  assert.deepEqual(entry?.capture, {
    excludeInboundPorts: [22, 9090],
    excludeOutboundPorts: [25],
    excludeOutboundCidrs: ['10.0.0.0/8'],
  });
  assert.equal(problems.length, 4);
  assert.match(problems[0] ?? '', /exclude-outbound-ports has "ssh", which is left out/);
});

test('more exclusions than a firewall should have count for nothing, and are told', () => {
  const annotations = { 'culvert.dev/exclude-outbound-cidrs': '1.1.1.1,'.repeat(30_000) };
  const { entry, problems } = podEntry({ ...pod, annotations }, enrolled);
  assert.deepEqual(entry?.capture, capture);
  assert.match(problems.join(), /has more than 64 entries, and none of them counts/);
});

test('a pod that a node made of a file is selected by nothing', () => {
  assert.deepEqual(podEntry({ ...pod, isMirror: true }, { ...enrolled, isEnrolled: false }).entry?.labels, {});
});

test('a name that gives no identity leaves the pod out', () => {
  const { entry, problems } = podEntry({ ...pod, serviceAccount: 'a/b' }, enrolled);
  assert.equal(entry, null);
  assert.match(problems.join(), /not a valid SPIFFE ID/);
});

test('it has the place of its node, in the mesh and outside', () => {
  const locality = { host: 'n1', zone: 'a' };
  for (const isEnrolled of [true, false]) {
    assert.deepEqual(podEntry(pod, { ...enrolled, isEnrolled, locality }).entry?.locality, locality);
  }
});

test('a service has in the registry what it says, and nothing that it does not say', () => {
  const service: ClusterService = {
    namespace: 'shop',
    name: 'web',
    uid: 'web-1',
    vips: [ip('10.96.0.9')],
    ports: [{ name: 'http', port: 80, targetPort: 'http' }],
    selector: { app: 'web' },
    takesUnready: false,
    distribution: undefined,
    isSticky: false,
  };
  const { vips, selector } = service;
  const ports = [{ port: 80, targetPort: 'http' }];
  const plain = { kind: 'service', namespace: 'shop', name: 'web', vips, ports, selector };
  assert.deepEqual(serviceEntry(service, []), plain);
  const endpoints = [{ address: ip('10.2.0.1'), ports: { 80: 8080 } }];
  const full: ClusterService = { ...service, takesUnready: true, distribution: 'same-host', isSticky: true };
  assert.deepEqual(serviceEntry(full, endpoints), {
    ...plain,
    endpoints,
    takesUnready: true,
    distribution: 'same-host',
    isSticky: true,
  });
});
