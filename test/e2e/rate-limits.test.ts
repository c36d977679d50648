import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { answerTo, exchange, greetAndEcho, refusal } from '../support/agent/dataplane-applications.js';
import { documents, meshOf } from '../support/mesh/rule-world.js';

const port = 8080;
const name = 'RateLimit/shop/web';
const rateLimit = (spec: string, of = 'web'): string => `
apiVersion: culvert.dev/v1
kind: RateLimit
metadata: { name: ${of}, namespace: shop }
spec: { host: web, ${spec} }
`;

/** RateLimits with real processes and connections. Agents have two threads, whose budgets are one. */
describe('connections that a RateLimit bounds', { timeout: patientMs(180_000) }, () => {
  let mesh: Mesh;
  let server: LabServer;

  before(async () => {
    const spec = (workload: string, serviceAccount = workload) => ({
      name: workload,
      namespace: 'shop',
      serviceAccount,
      labels: { app: workload },
    });
    mesh = await startMesh({
      topology: {
        hosts: [
          { name: 'node1', workloads: [spec('client'), spec('twin', 'client'), spec('other')] },
          { name: 'node2', workloads: [spec('web')] },
        ],
        services: [
          { name: 'web', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'web' } },
        ],
      },
    });
    server = await mesh.lab.workload('web').listen({ port }, greetAndEcho);
    await mesh.apply(documents(meshOf('{ defaultAction: allow, outbound: allow }')));
  });
  after(async () => {
    await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  const hello = () => `hello ${mesh.lab.workload('client').ipv4}\n`;
  const vip = () => ({ ip: mesh.lab.vip('web').ipv4, port: 80 });
  const limited = async (bound: string, mode: string): Promise<number> =>
    await mesh.agent('node1').metric('culvert_connections_rate_limited_total', { limit: name, bound, mode });

  /** Opens one every 25 ms, by each client in turn; how many were served, and what the first and the last were apart. */
  async function opened(
    forMs: number,
    clients: readonly string[],
  ): Promise<{ served: number; all: number; ms: number }> {
    const answers: Promise<string | null>[] = [];
    const fromMs = performance.now();
    let lastMs = fromMs;
    while (performance.now() - fromMs < forMs) {
      lastMs = performance.now();
      const client = clients[answers.length % clients.length] ?? '';
      answers.push(answerTo(mesh.lab.workload(client), vip(), 'x'));
      await delay(25);
    }
    const served = (await Promise.all(answers)).filter((answer) => answer?.endsWith('x') === true).length;
    return { served, all: answers.length, ms: lastMs - fromMs };
  }

  async function open(client: string): Promise<Socket> {
    const socket = await mesh.lab.workload(client).connect(vip());
    await new Promise((resolve) => socket.once('data', resolve));
    return socket;
  }

  test('are as many as the rate and the burst say, for an identity on all its workloads and threads', async () => {
    await mesh.apply(documents(rateLimit('connectionsPerSecond: 12, burst: 20')));
    const { served, all, ms } = await opened(10_000, ['client', 'twin']);
    const expected = 20 + (12 * ms) / 1000;
    assert.ok(all > 1.5 * expected, `${all} were opened, too few to reach the limit`);
    assert.ok(Math.abs(served - expected) <= 0.05 * expected, `${served} of ${all} were served, not ${expected}`);
    const agent = mesh.agent('node1');
    const refused = await agent.waitForRecord('a refusal', ({ reason }) => reason === 'RATE_LIMITED');
    assert.match(refused.detail ?? '', /^12 new connections a second from shop\/client to shop\/web:80, burst 20 /);
    assert.deepEqual(refused.limited, [`${name} connectionsPerSecond enforce`]);
    await waitUntil('all of them are counted', async () =>
      (await limited('connectionsPerSecond', 'enforce')) === all - served ? true : undefined,
    );
    // Another identity has a budget of its own.
    assert.match((await answerTo(mesh.lab.workload('other'), vip(), 'x')) ?? '', /x$/);
    const { stdout } = await mesh.controller.culvert(['routes', 'shop/client', 'shop/web']);
    const why = await mesh.controller.culvert(['why', 'shop/client', 'service:shop/web']);
    assert.match(
      why.stdout,
      /RateLimit\/shop\/web refuses what is more, or slows it down: 12 a second \(burst 20\) from/,
    );
    assert.match(stdout, /limit +RateLimit\/shop\/web: 12 a second \(burst 20\) from shop\/client to shop\/web:80/);
  });

  test('are not limited in mode audit, which records and counts what it would have refused', async () => {
    await mesh.apply(documents(rateLimit('connectionsPerSecond: 5, burst: 5, per: destination, mode: audit')));
    const before = await limited('connectionsPerSecond', 'audit');
    const { served, all, ms } = await opened(3000, ['client', 'other']);
    assert.equal(served, all);
    const expected = all - 5 - (5 * ms) / 1000;
    const counted = await waitUntil('those that it would have refused', async () => {
      const now = (await limited('connectionsPerSecond', 'audit')) - before;
      return now >= expected - 2 ? now : undefined;
    });
    assert.ok(Math.abs(counted - expected) <= 2, `${counted} are counted, not ${expected}`);
    const record = await mesh
      .agent('node1')
      .waitForRecord('a record', (each) => each.limited?.includes(`${name} connectionsPerSecond audit`) === true);
    assert.equal(record.reason, 'OK');
  });

  test('are at most as many as may be open, over both threads, and one more when one ends', async () => {
    await mesh.apply(documents(rateLimit('maxConnections: 3, per: destination')));
    const sockets: Socket[] = [];
    for (const client of ['client', 'other', 'twin']) sockets.push(await open(client));
    for (const client of ['client', 'other', 'client', 'twin']) {
      assert.equal(await refusal(mesh.lab.workload(client), vip()), 'ECONNRESET');
    }
    const { detail } = await mesh
      .agent('node1')
      .waitForRecord(
        'a refusal',
        (record) => record.detail?.startsWith('3 connections to shop/web:80 are open ') === true,
      );
    assert.match(detail ?? '', /maxConnections of RateLimit\/shop\/web/);
    await exchange(sockets.pop()!, 'bye');
    await waitUntil('a place', async () =>
      (await answerTo(mesh.lab.workload('other'), vip(), 'x'))?.endsWith('x') === true ? true : undefined,
    );
    for (const socket of sockets) assert.match(await exchange(socket, 'still'), /still$/);
  });

  test('do not pay for those that the rules deny', async () => {
    const deny = `
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: no-others }
spec: { action: deny, from: [{ serviceAccount: shop/other }], to: [{ serviceAccount: shop/web }] }
`;
    // Under a name of its own: a budget outlives a change of its document, with what was taken from it.
    const slow = rateLimit('connectionsPerSecond: 0.01, burst: 2, per: destination', 'slow');
    await mesh.delete('RateLimit', 'web', '-n', 'shop');
    await mesh.apply(documents(slow, deny));
    for (let at = 0; at < 4; at++) assert.equal(await answerTo(mesh.lab.workload('other'), vip(), 'x'), null);
    for (let at = 0; at < 2; at++) {
      assert.match((await answerTo(mesh.lab.workload('client'), vip(), 'x')) ?? '', /x$/);
    }
    assert.equal(await answerTo(mesh.lab.workload('client'), vip(), 'x'), null);
    await mesh.delete('RateLimit', 'slow', '-n', 'shop');
    await waitUntil('no limit', async () =>
      (await answerTo(mesh.lab.workload('client'), vip(), 'x'))?.endsWith('x') === true ? true : undefined,
    );
  });

  test('move together as many bytes as bytesPerSecond says, each way and over both threads, and end in order', async () => {
    const bytesPerSecond = 2_000_000;
    await mesh.apply(documents(rateLimit(`bytesPerSecond: ${bytesPerSecond}, per: destination`, 'bytes')));
    const clients = ['client', 'twin', 'twin', 'client'];
    const sockets = await Promise.all(clients.map(async (client) => await mesh.lab.workload(client).connect(vip())));
    let received = 0;
    for (const socket of sockets) {
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => (received += chunk.length));
      const fill = (): void => {
        while (socket.write(Buffer.alloc(65_536)));
      };
      socket.on('drain', fill);
      fill();
    }
    // The application echoes, so both ways are full. What may be ahead at first is over then.
    await delay(1000);
    const [from, fromMs] = [received, performance.now()];
    await delay(10_000);
    const [moved, ms] = [received - from, performance.now() - fromMs];
    for (const socket of sockets) socket.destroy();
    const expected = (bytesPerSecond * ms) / 1000;
    assert.ok(Math.abs(moved - expected) <= 0.05 * expected, `${moved} bytes came, not ${expected}`);
    const record = await mesh
      .agent('node1')
      .waitForRecord(
        'a record',
        (each) => each.limited?.includes('RateLimit/shop/bytes bytesPerSecond enforce') === true,
      );
    assert.ok(record.bytesReceived > 0);
    // What is held up comes all the same, and its end behind it.
    const text = 'x'.repeat(3_000_000);
    const fromAnswerMs = performance.now();
    assert.equal((await answerTo(mesh.lab.workload('client'), vip(), text))?.length, text.length + hello().length);
    assert.ok(performance.now() - fromAnswerMs > 1000);
    // Short ones are no way round it: each has less than one may have ahead, and together they wait for their turn.
    const short = 'x'.repeat(60_000);
    const fromShortMs = performance.now();
    const answers = await Promise.all(
      Array.from({ length: 60 }, async () => await answerTo(mesh.lab.workload('client'), vip(), short)),
    );
    for (const answer of answers) assert.equal(answer?.length, short.length + hello().length);
    const expectedMs = (1000 * (60 * short.length - bytesPerSecond / 20)) / bytesPerSecond;
    assert.ok(performance.now() - fromShortMs > 0.9 * expectedMs, `${performance.now() - fromShortMs} ms`);
    await mesh.delete('RateLimit', 'bytes', '-n', 'shop');
  });
});
