import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { WorkerReport } from '../../../../agent/dataplane/messages.js';
import type { OutlierPolicy } from '../../../../shared/policy/traffic-documents.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { answerTo, greetAndEcho, outbound, refusal } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
const names = ['a', 'b', 'c', 'd'] as const;
const policy: OutlierPolicy = {
  failures: 2,
  baseEjectionMs: 60_000,
  decayMs: 10_000,
  maxEjectionPercent: 50,
  minHealthPercent: 0,
};

/** A broken application: it accepts, and resets when it is asked something, before it has said anything. */
function reset(socket: Socket): void {
  socket.on('error', () => {});
  socket.once('data', () => socket.resetAndDestroy());
}

/** Real connections to endpoints that fail, and are ejected. One worker, whose states are all of them. */
describe('an endpoint of a service with outlierDetection', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  let revision = 1;
  const servers = new Map<string, LabServer>();
  const reports: WorkerReport[] = [];

  before(async () => {
    const spec = (name: string, app: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app } });
    mesh = await DataplaneMesh.start({
      hosts: [
        { name: 'node1', workloads: [spec('client', 'client')] },
        { name: 'node2', workloads: names.map((name) => spec(name, 'web')) },
      ],
      services: ['web', 'one', 'two', 'three'].map((name) => ({
        name,
        namespace: 'shop',
        ports: [{ port: 80, targetPort: port }],
        selector: { app: 'web' },
      })),
    });
    mesh.pool('node1').on('report', (report) => void reports.push(report));
    for (const name of names) await serve(name);
  });
  after(async () => {
    for (const server of servers.values()) await server.close();
    await mesh[Symbol.asyncDispose]();
  });
  beforeEach(() => reports.splice(0));

  async function serve(name: string, how: (socket: Socket) => void = greetAndEcho): Promise<void> {
    await servers.get(name)?.close();
    servers.set(name, await mesh.workload(name).listen({ port }, how));
  }

  async function detect(outliers: Partial<OutlierPolicy> = {}): Promise<void> {
    const rule = { namespace: 'shop', name: 'r', host: '*.shop.svc.cluster.local', ports: {} };
    const destinationRules = [{ ...rule, policy: { outliers: { ...policy, ...outliers } } }];
    await mesh.apply(allowAll({ revision: ++revision, destinationRules }));
  }

  const vip = (name: string) => ({ ip: mesh.lab.vip(name).ipv4, port: 80 });

  /** Connects, and says which endpoint served and with what end. */
  async function connect(service: string): Promise<string> {
    const isServed = (await answerTo(mesh.workload('client'), vip(service), 'x'))?.endsWith('x') === true;
    const { destination, reason } = await mesh.closed('node1', outbound);
    assert.equal(isServed, reason === 'OK');
    return `${destination.workload?.replace('shop/', '') ?? ''} ${reason}`;
  }

  async function several(service: string, times: number): Promise<string[]> {
    const seen: string[] = [];
    for (let i = 0; i < times; i++) seen.push(await connect(service));
    return seen;
  }

  const ejectedNow = async (count: number) =>
    await waitUntil(`${count} ejected endpoints`, () => {
      const last = reports.at(-1);
      return last?.gauges.ejectedEndpoints === count ? { reports } : undefined;
    });

  test('that refuses is ejected without a failed client, and told with the reason', async () => {
    await detect();
    // What worked before does not keep it from being ejected.
    assert.equal(new Set(await several('web', 8)).size, 4);
    await servers.get('a')!.close();
    servers.delete('a');
    // Each connection that meets it is served by the next one.
    const seen = await several('web', 24);
    assert.deepEqual(new Set(seen), new Set(['b OK', 'c OK', 'd OK']));
    await ejectedNow(1);
    const [ejection, ...others] = reports.flatMap(({ ejections = [] }) => ejections);
    assert.deepEqual(others, []);
    assert.deepEqual(
      [ejection?.destination, ejection?.workload, ejection?.reason, ejection?.count],
      ['shop/web:80', 'shop/a', 'CONNECT_REFUSED', 1],
    );
    assert.ok(ejection!.forMs >= 60_000 && ejection!.forMs <= 66_000);
    const ejected = reports.findLast((report) => report.ejected !== undefined)?.ejected;
    assert.deepEqual([ejected?.length, ejected?.[0]?.state, ejected?.[0]?.workload], [1, 'ejected', 'shop/a']);
    // It is back, and stays ejected until its time is over.
    await serve('a');
    assert.ok(!(await several('web', 8)).includes('a OK'));
  });

  test('that resets before its first byte fails at most as many clients as the policy says, and no more', async () => {
    await detect();
    await serve('b', reset);
    const seen = await several('one', 24);
    assert.equal(seen.filter((each) => each === 'b PEER_RESET').length, policy.failures);
    assert.deepEqual(new Set(seen), new Set(['a OK', 'b PEER_RESET', 'c OK', 'd OK']));
    await serve('b');
  });

  test('is whole again after one connection that it serves, and ejected for longer after one that it does not', async () => {
    // Long enough for the connections of a step on a machine that is busy: none of them is a trial.
    await detect({ baseEjectionMs: 6000 });
    await serve('c', reset);
    const failed = (seen: readonly string[]): number => seen.filter((each) => each.endsWith('PEER_RESET')).length;
    assert.equal(failed(await several('two', 16)), policy.failures);
    await waitUntil('a trial that fails', async () => (failed(await several('two', 4)) > 0 ? true : undefined), 20_000);
    assert.equal(failed(await several('two', 8)), 0);
    await serve('c');
    await waitUntil(
      'a trial that works',
      async () => ((await several('two', 4)).includes('c OK') ? true : undefined),
      20_000,
    );
    const counts = reports.flatMap(({ ejections = [] }) => ejections).map(({ count }) => count);
    assert.deepEqual(counts, [1, 2]);
    assert.equal(new Set(await several('two', 12)).size, 4);
  });

  test('leaves none, and the circuit is open until one comes back; in a panic all are tried', async () => {
    await detect({ maxEjectionPercent: 100, failures: 1 });
    for (const name of names) await serve(name, reset);
    const seen = await several('three', 4);
    assert.deepEqual(
      seen.toSorted(),
      names.map((name) => `${name} PEER_RESET`),
    );
    assert.equal(await refusal(mesh.workload('client'), vip('three')), 'ECONNRESET');
    const { reason, detail, service } = await mesh.closed('node1', outbound);
    assert.deepEqual([reason, service], ['CIRCUIT_OPEN', 'shop/three']);
    assert.match(detail, /^all 4 endpoints of shop\/three are ejected/);
    await detect({ maxEjectionPercent: 100, failures: 1, minHealthPercent: 20 });
    for (const name of names) await serve(name);
    assert.deepEqual(
      (await several('three', 4)).toSorted(),
      names.map((name) => `${name} OK`),
    );
  });
});
