import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { imageName, usualRepository } from '../../images/test-images.js';
import { manifest } from '../../manifest.js';
import { ownCluster } from '../../target.js';
import type { Pod } from '../test-namespace.js';
import { InstalledCulvert } from './installed-culvert.js';

/** Which endpoint of a service a pod in the mesh gets. */
const cluster = ownCluster();
const { kubectl } = cluster;
const objects = manifest('services', {
  APP: imageName('app', usualRepository),
  NODE: cluster.node('n2').plan.ipv4,
});
let culvert: InstalledCulvert;
/** By node: the name of its server, with which it greets. */
const servers = new Map<string, string>();

before(async () => {
  await kubectl.apply(objects);
  await kubectl.wait(['-n', 'services', 'rollout', 'status', 'daemonset/echo']);
  await kubectl.wait(['-n', 'services', 'wait', '--for=condition=Ready', 'pod', '--all']);
  const { items } = (await kubectl.json(['-n', 'services', 'get', 'pods', '-l', 'app=echo'])) as {
    readonly items: readonly (Pod & { readonly spec: { readonly nodeName: string } })[];
  };
  for (const { metadata, spec } of items) servers.set(spec.nodeName, metadata.name);
  culvert = await InstalledCulvert.install(cluster);
  // Both servers and the client.
  await culvert.enrol('services', 3);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await kubectl.succeed(['delete', '-f', '-', '--timeout=120s'], { input: objects, timeoutMs: 150_000 });
});

/** Who greets the client on n1, connection by connection. */
async function greeters(address: string, count: number): Promise<string[]> {
  const found: string[] = [];
  for (let at = 0; at < count; at++) {
    const { code, stdout } = await kubectl.exec('services/client', ['node', '/app.mjs', 'once', address, '70']);
    assert.equal(code, 0, `${address}: ${stdout}`);
    found.push((JSON.parse(stdout) as { readonly host: string }).host);
  }
  return found;
}

/** What the agent of the client says of its next connection to the service. */
async function record(service: string): Promise<unknown> {
  const line = await culvert.nextRecord('n1', (each) => each.service === `services/${service}`);
  return { path: line.path, reason: line.reason };
}

test('a service sends connections to both servers', async () => {
  assert.deepEqual(new Set(await greeters('10.96.8.1', 4)), new Set(servers.values()));
});

for (const [service, address, why] of [
  ['local', '10.96.8.2', 'internalTrafficPolicy: Local'],
  ['near', '10.96.8.3', 'trafficDistribution: PreferSameNode'],
] as const) {
  test(`${why} gives the server of the client's own node`, async () => {
    assert.deepEqual(new Set(await greeters(address, 4)), new Set([servers.get('n1')]));
    assert.deepEqual(await record(service), { path: 'local', reason: 'OK' });
  });
}

test('sessionAffinity: ClientIP gives one server, always the same', async () => {
  const [first = '', ...others] = await greeters('10.96.8.4', 5);
  assert.deepEqual(new Set(others), new Set([first]));
});

test('a pod with the network of its node is reached there, by the name of its port', async () => {
  assert.deepEqual(await greeters('10.96.8.5', 1), ['n2']);
  assert.deepEqual(await record('on-host'), { path: 'passthrough', reason: 'OK' });
});

test('a service without a selector leads to the endpoints of its slice', async () => {
  assert.deepEqual(await greeters('10.96.8.6', 1), ['n2']);
  assert.deepEqual(await record('named'), { path: 'passthrough', reason: 'OK' });
});

test('routes of the Gateway API and of Istio that the cluster has lead connections, without a word in them', async () => {
  const definitions = manifest('gateway-routes');
  const route = `apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { name: all, namespace: services }
spec:
  parentRefs: [{ name: edge, sectionName: tcp }, { group: "", kind: Service, name: all }]
  rules: [{ backendRefs: [{ name: local, port: 70 }] }]
`;
  const sticky = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: sticky, namespace: services }
spec: { host: sticky, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
`;
  await kubectl.apply(definitions);
  const names = ['tcproutes.gateway.networking.k8s.io', 'destinationrules.networking.istio.io'];
  for (const name of names) await kubectl.wait(['wait', '--for=condition=Established', `crd/${name}`], 30_000);
  await culvert.change(['--policies', 'TCPRoute', 'ReferenceGrant', 'DestinationRule']);
  await kubectl.apply(route);
  await kubectl.apply(sticky);
  await waitUntil('the route leads', async () => {
    const found = new Set(await greeters('10.96.8.1', 6));
    return (found.size === 1 && found.has(servers.get('n1') ?? '')) || undefined;
  });
  await waitUntil('connections of one client go to both servers', async () => {
    return new Set(await greeters('10.96.8.4', 6)).size === 2 || undefined;
  });
  assert.match(await culvert.culvert(['get', 'tcproutes', '-A', '-o', 'wide']), /all .* cluster/);
  const [line] = (await culvert.checks()).filter(({ check }) => check === 'kubernetes');
  assert.equal(line?.state, 'ok', line?.message);
  const written = await kubectl.succeed(['-n', 'services', 'get', 'tcproute', 'all', '-o', 'jsonpath={.status}']);
  assert.equal(written, '');
  await kubectl.succeed(['-n', 'services', 'delete', 'tcproute/all', 'destinationrule.networking.istio.io/sticky']);
  await waitUntil('both servers are reached again', async () => {
    return new Set(await greeters('10.96.8.1', 6)).size === 2 || undefined;
  });
  await kubectl.succeed(['delete', '-f', '-', '--timeout=60s'], { input: definitions, timeoutMs: 90_000 });
});
