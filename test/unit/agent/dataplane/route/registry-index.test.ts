import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildRegistryImage } from '../../../../../agent/dataplane/image/registry-image.js';
import { RegistryIndex } from '../../../../../agent/dataplane/route/registry-index.js';
import { resolveDestination } from '../../../../../shared/routing/destination.js';
import { EndpointBalancer } from '../../../../../agent/dataplane/balance/endpoint-balancer.js';
import type { IpAddress } from '../../../../../shared/address.js';
import { formatSpiffeId } from '../../../../../shared/identity.js';
import { registryKey, type RegistryService, type WorkloadEntry } from '../../../../../shared/routing/registry-entry.js';
import { nodeNamed } from '../../../../support/routing/names.js';

const ip = (text: string): IpAddress => text as IpAddress;

function workload(name: string, init: Partial<WorkloadEntry> = {}): WorkloadEntry {
  const namespace = init.namespace ?? 'shop';
  return {
    kind: 'workload',
    namespace,
    name,
    serviceAccount: name,
    identity: formatSpiffeId({ trustDomain: 'culvert.test', namespace, serviceAccount: name }),
    labels: {},
    addresses: [],
    node: nodeNamed('n1'),
    netns: name,
    protocol: 'hbone',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
    ...init,
  };
}

function service(name: string, init: Partial<RegistryService> = {}): RegistryService {
  return {
    kind: 'service',
    namespace: 'shop',
    name,
    vips: [ip('198.18.200.1'), ip('fd00::c8:1')],
    ports: [{ port: 80, targetPort: 8080 }],
    selector: { app: 'web' },
    ...init,
  };
}

const web1 = workload('web1', { labels: { app: 'web' }, addresses: [ip('198.18.10.1'), ip('fd00::1')] });
const web2 = workload('web2', { labels: { app: 'web' }, addresses: [ip('198.18.10.2')] });
const db = workload('db', { labels: { app: 'db' }, addresses: [ip('198.18.10.3')] });

function filled(...entries: (WorkloadEntry | RegistryService)[]): RegistryIndex {
  const index = new RegistryIndex();
  index.apply({ image: buildRegistryImage(entries), upserts: [], removals: [] });
  return index;
}

describe('the registry index', () => {
  test('knows no workload and says so before the first message', () => {
    const index = new RegistryIndex();
    assert.equal(index.isFilled, false);
    index.apply({ image: buildRegistryImage([]), upserts: [], removals: [] });
    assert.equal(index.isFilled, true);
  });

  test('notices that a workload changed its labels or left', () => {
    const index = filled(web1, web2, service('web'));
    index.endpointsOf(service('web'));
    index.apply({ image: null, upserts: [{ ...web1, labels: { app: 'canary' } }], removals: [] });
    assert.deepEqual(
      index.endpointsOf(service('web')).map((entry) => entry.name),
      ['web2'],
    );
    index.apply({ image: null, upserts: [], removals: [registryKey(web2)] });
    assert.deepEqual(index.endpointsOf(service('web')), []);
    assert.equal(index.workloadAt(ip('198.18.10.2')), undefined);
  });

  test('forgets the addresses that an updated workload no longer has', () => {
    const index = filled(web1);
    index.apply({ image: null, upserts: [{ ...web1, addresses: [ip('198.18.10.77')] }], removals: [] });
    assert.equal(index.workloadAt(ip('198.18.10.1')), undefined);
    assert.equal(index.workloadAt(ip('198.18.10.77'))?.name, 'web1');
  });

  test('keeps an address with its new owner when the old one, later by name, is removed afterwards', () => {
    const index = filled(web1);
    const heir = workload('heir', { addresses: [ip('198.18.10.1')] });
    index.apply({ image: null, upserts: [heir], removals: [] });
    assert.equal(index.workloadAt(ip('198.18.10.1')), heir);
    index.apply({ image: null, upserts: [], removals: [registryKey(web1)] });
    assert.equal(index.workloadAt(ip('198.18.10.1')), heir);
  });

  test('gives an address back when the later owner leaves first', () => {
    const index = filled(web1);
    const heir = workload('heir', { addresses: [ip('198.18.10.1')] });
    index.apply({ image: null, upserts: [heir], removals: [] });
    index.apply({ image: null, upserts: [], removals: [registryKey(heir)] });
    assert.deepEqual(index.workloadAt(ip('198.18.10.1')), web1);
  });

  test('gives an address to a later owner only when the one before it by name is gone', () => {
    const index = filled(web1);
    const late = workload('zz', { addresses: [ip('198.18.10.1')] });
    index.apply({ image: null, upserts: [late], removals: [] });
    assert.deepEqual(index.workloadAt(ip('198.18.10.1')), web1);
    index.apply({ image: null, upserts: [], removals: [registryKey(web1)] });
    assert.equal(index.workloadAt(ip('198.18.10.1')), late);
  });

  test('drops everything that a full message does not name', () => {
    const index = filled(web1, web2, service('web'));
    index.apply({ image: buildRegistryImage([db]), upserts: [], removals: [] });
    assert.equal(index.size, 1);
    assert.equal(index.workloadAt(ip('198.18.10.1')), undefined);
    assert.equal(index.serviceAt(ip('198.18.200.1')), undefined);
  });
});

describe('the balancer', () => {
  const index = filled(web1, web2, service('web'));
  const destination = resolveDestination(index, { ip: ip('198.18.200.1'), port: 80 }, null);
  const dial = { dialledPort: 80, client: ip('198.18.10.9'), policy: null, atMost: 3 };
  const names = (balancer: EndpointBalancer): string[] =>
    balancer.order(destination, dial).map((endpoint) => endpoint.workload?.name ?? '');

  test('goes round, and names every endpoint exactly once for the retries', () => {
    const balancer = new EndpointBalancer({ random: () => 0, nowMs: () => 0 });
    assert.deepEqual(names(balancer), ['web1', 'web2']);
    assert.deepEqual(names(balancer), ['web2', 'web1']);
    assert.deepEqual(names(balancer), ['web1', 'web2']);
  });

  test('starts at a random endpoint', () => {
    assert.deepEqual(names(new EndpointBalancer({ random: () => 0.99, nowMs: () => 0 })), ['web2', 'web1']);
  });
});
