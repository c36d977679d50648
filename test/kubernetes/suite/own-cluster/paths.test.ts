import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ownCluster } from '../../target.js';
import type { Pod } from '../test-namespace.js';
import { InstalledCulvert } from './installed-culvert.js';
import { Shop } from './shop.js';

/** Which pods reach each other through the mesh, by which path, and which client the application sees. */
const cluster = ownCluster();
const { kubectl, plan } = cluster;
const shop = new Shop(cluster);
let culvert: InstalledCulvert;
const addresses = new Map<string, { readonly ipv4: string; readonly ipv6: string }>();

before(async () => {
  await shop.start();
  for (const namespace of ['shop', 'default']) {
    const { items } = (await kubectl.json(['-n', namespace, 'get', 'pods'])) as { readonly items: readonly Pod[] };
    for (const { metadata, status } of items) {
      const [ipv4 = '', ipv6 = ''] = (status.podIPs ?? []).map(({ ip }) => ip);
      addresses.set(metadata.name.replace(/^db-.*/, 'db'), { ipv4, ipv6 });
    }
  }
  culvert = await InstalledCulvert.install(cluster);
  // db, web and near.
  await culvert.enrol('shop', 3);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

type Row = {
  /** A pod of the namespace shop, or outside the mesh. */
  readonly from: 'web' | 'near' | 'unmeshed' | 'host1' | 'host2';
  readonly to: 'pod' | 'service' | 'port of n1' | 'port of n2';
  /** How the agent of db's node says that it came; null: a program of the node itself, as a probe is, which no rule is about. */
  readonly path: 'hbone' | 'local' | 'plaintext' | null;
  /** The client that the application sees: its own address unless this says otherwise. */
  readonly sees?: RegExp;
};

const nodeAddress = /^10\.24[01]\.|^fd4[01]:/;

const rows: readonly Row[] = [
  { from: 'web', to: 'pod', path: 'hbone' },
  { from: 'web', to: 'service', path: 'hbone' },
  { from: 'near', to: 'pod', path: 'local' },
  { from: 'near', to: 'service', path: 'local' },
  { from: 'unmeshed', to: 'pod', path: 'plaintext' },
  { from: 'unmeshed', to: 'service', path: 'plaintext' },
  { from: 'host1', to: 'pod', path: 'plaintext', sees: nodeAddress },
  { from: 'host2', to: 'pod', path: null, sees: nodeAddress },
  { from: 'host2', to: 'service', path: null, sees: nodeAddress },
  { from: 'host1', to: 'port of n2', path: 'plaintext', sees: nodeAddress },
  { from: 'host2', to: 'port of n1', path: 'plaintext', sees: nodeAddress },
];

for (const { from, to, path, sees } of rows) {
  test(`${from} reaches ${to}${path === null ? ' as a probe does' : ` by ${path}`}`, async () => {
    const families = to === 'pod' && plan.isDual ? (['ipv4', 'ipv6'] as const) : (['ipv4'] as const);
    for (const family of families) {
      const [host, port] = destinationOf(to, family);
      const greeting = await connect(from, host, port);
      const own = addresses.get(from)?.[family] ?? '';
      if (sees === undefined) assert.equal(greeting.sees, own);
      else assert.match(greeting.sees, sees);
      if (path === null) continue;
      const record = await culvert.nextRecord('n2', (line) => isOf(line, greeting.sees));
      assert.deepEqual({ path: record.path, reason: record.reason }, { path, reason: 'OK' }, `${from}, ${family}`);
    }
  });
}

test('probes pass, and the application was never started again', async () => {
  const { items } = (await kubectl.json(['-n', 'shop', 'get', 'pods', '-l', 'app=db'])) as {
    readonly items: readonly Pod[];
  };
  assert.deepEqual(
    items.flatMap(({ status }) => status.containerStatuses ?? []).map((each) => [each.ready, each.restartCount]),
    [[true, 0]],
  );
});

test('logs and exec of a captured pod work', async () => {
  assert.match(await kubectl.succeed(['-n', 'shop', 'logs', 'deployment/db']), /"listening":7000/);
  const { code, stdout } = await kubectl.exec('shop/deployment/db', ['sh', '-c', 'echo there']);
  assert.deepEqual([code, stdout], [0, 'there\n']);
});

/** A connection that db got. A record on the same host may be the client's own, and kubelet's probes have records too. */
function isOf(
  { destinationWorkload, sourceAddress, dialledFrom, path, direction }: RecordParts,
  client: string,
): boolean {
  const isThere = destinationWorkload?.startsWith('shop/db') ?? false;
  const isFrom = [sourceAddress, dialledFrom].some((address) => address?.includes(client) ?? false);
  return isThere && isFrom && path !== 'probe' && (direction === 'inbound' || path === 'local');
}
type RecordParts = {
  readonly destinationWorkload?: string;
  readonly sourceAddress?: string;
  readonly dialledFrom?: string;
  readonly path: string;
  readonly direction: string;
};

function destinationOf(to: Row['to'], family: 'ipv4' | 'ipv6'): readonly [host: string, port: number] {
  switch (to) {
    case 'pod':
      return [addresses.get('db')?.[family] ?? '', 7000];
    case 'service':
      return ['10.96.7.7', 70];
    case 'port of n1':
    case 'port of n2':
      return [cluster.node(to === 'port of n1' ? 'n1' : 'n2').plan.ipv4, 30070];
  }
}

async function connect(from: Row['from'], host: string, port: number): Promise<{ readonly sees: string }> {
  const namespace = from === 'web' || from === 'near' ? 'shop' : 'default';
  const { code, stdout } = await kubectl.exec(`${namespace}/${from}`, ['node', '/app.mjs', 'once', host, String(port)]);
  if (code !== 0) {
    const logs = await Promise.all(cluster.nodes.map(async ({ name }) => (await culvert.records(name)).slice(-3)));
    assert.fail(`${from} → ${host}:${port}: ${stdout.trim()}; the agents say: ${JSON.stringify(logs)}`);
  }
  return JSON.parse(stdout) as { readonly sees: string };
}
