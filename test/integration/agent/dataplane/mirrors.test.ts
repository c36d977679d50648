import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import type { RouteMirror } from '../../../../shared/policy/traffic-documents.js';
import { patientMs } from '../../../lab/patience.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { answerTo, greetAndEcho, outbound } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { snapshotOf } from '../../../support/rules/policy-fixture.js';

const port = 8080;
const of = 'VirtualService/shop/web spec.tcp[0]';
const sha = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');

/** Real connections to a service whose VirtualService has copies sent to a shadow. */
describe('connections that a VirtualService has copied', { timeout: patientMs(180_000) }, () => {
  let mesh: DataplaneMesh;
  let revision = 1;
  const servers: LabServer[] = [];
  /** What each connection to the shadow has brought. */
  let shadowed: { bytes: Buffer[]; hasEnded: boolean }[] = [];
  let behave: (socket: Socket) => void = () => {};

  before(async () => {
    const spec = (name: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app: name } });
    const service = (name: string) => ({
      name,
      namespace: 'shop',
      ports: [{ port: 80, targetPort: port }],
      selector: { app: name },
    });
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [spec('client')] },
          { name: 'node2', workloads: [spec('web'), spec('next')] },
        ],
        services: [service('web'), service('next')],
      },
      { workers: 2 },
    );
    servers.push(await mesh.workload('web').listen({ port }, greetAndEcho));
    servers.push(await mesh.workload('next').listen({ port }, (socket) => behave(socket)));
  });
  const taking = (socket: Socket): void => {
    const one = { bytes: [] as Buffer[], hasEnded: false };
    shadowed.push(one);
    socket.write('what no client gets');
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => one.bytes.push(bytes));
    socket.on('end', () => {
      one.hasEnded = true;
      socket.end();
    });
  };
  beforeEach(() => {
    shadowed = [];
    behave = taking;
  });
  afterEach(() => {
    for (const host of ['node1', 'node2']) mesh.takeUnclaimed(host);
  });
  after(async () => {
    for (const server of servers) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  async function use(mirror: Partial<RouteMirror>, more: object = {}): Promise<void> {
    const written = { percent: 100, subset: null, service: 'shop/next', ...mirror };
    const routes = [{ matches: [], choices: [{ subset: null, weight: 1 }], mirror: written }];
    const virtualServices = [{ namespace: 'shop', name: 'web', host: 'web.shop.svc.cluster.local', routes }];
    await mesh.apply({ ...allowAll({ revision: ++revision, virtualServices }), ...more });
  }

  const vip = () => ({ ip: mesh.lab.vip('web').ipv4, port: 80 });
  const client = () => mesh.workload('client');
  const shadowRecord = async () => await mesh.closed('node1', ({ mirrorOf }) => mirrorOf !== undefined);
  const ownRecord = async () => await mesh.closed('node1', (one) => outbound(one) && one.mirrorOf === undefined);

  /** Sends all of it, reads all of the echo, and compares both. */
  async function bulk(bytes: Buffer): Promise<void> {
    const socket = await client().connect(vip());
    const found: Buffer[] = [];
    socket.on('data', (part: Buffer) => found.push(part));
    socket.end(bytes);
    await once(socket, 'end');
    const all = Buffer.concat(found);
    assert.equal(sha(all.subarray(all.length - bytes.length)), sha(bytes));
    assert.ok(!String(all.subarray(0, 200)).includes('no client'));
  }

  test('reach their client whole, and the shadow has what it sent, in order, and its end', async () => {
    await use({});
    const text = 'x'.repeat(40_000);
    assert.match((await answerTo(client(), vip(), text)) ?? '', /^hello .*\nx+$/);
    const own = await ownRecord();
    const { reason, mirrorOf, route, path, destination, bytesSent } = await shadowRecord();
    assert.deepEqual([own.reason, reason, mirrorOf, path], ['OK', 'OK', own.traceId, 'hbone']);
    assert.deepEqual([route?.route, route?.subset, destination.workload], [of, 'shop/next:80', 'shop/next']);
    assert.deepEqual([own.destination.workload, bytesSent], ['shop/web', text.length]);
    assert.deepEqual(
      shadowed.map(({ bytes, hasEnded }) => [sha(Buffer.concat(bytes)), hasEnded]),
      [[sha(text), true]],
    );
  });

  test('are whole beside a shadow that hangs, which is given up', async () => {
    await use({});
    // It takes the connection, and reads nothing.
    behave = (socket) => void socket.on('error', () => {}).pause();
    await bulk(randomBytes(24_000_000));
    const own = await ownRecord();
    const { reason, detail, mirrorOf } = await shadowRecord();
    assert.deepEqual([own.reason, reason, mirrorOf], ['OK', 'MIRROR_GIVEN_UP', own.traceId]);
    assert.match(detail, /bytes wait for the shadow/);
  });

  test('are whole beside a shadow that resets, that refuses, that the rules deny and that is not there', async () => {
    await use({});
    behave = (socket) => socket.resetAndDestroy();
    await bulk(randomBytes(3_000_000));
    assert.equal((await ownRecord()).reason, 'OK');
    assert.notEqual((await shadowRecord()).reason, 'OK');

    await use({ service: 'shop/nowhere' });
    await bulk(randomBytes(300_000));
    assert.equal((await ownRecord()).reason, 'OK');
    const missing = await shadowRecord();
    assert.deepEqual(
      [missing.reason, missing.detail],
      ['NO_ENDPOINT', `${of} leads to shop/nowhere: there is no such service`],
    );

    const { rules } = snapshotOf({ rules: [{ action: 'deny', from: [{}], to: [{ labels: { app: 'next' } }] }] });
    await use({}, { rules });
    await bulk(randomBytes(300_000));
    assert.equal((await ownRecord()).reason, 'OK');
    assert.equal((await shadowRecord()).reason, 'POLICY_DENY');
    assert.deepEqual(shadowed, []);
  });

  test('take the shadow with them when their client resets', async () => {
    await use({});
    const socket = await client().connect(vip());
    socket.write('x');
    await waitUntil('the shadow has it', () => (shadowed[0]?.bytes.length === 1 ? true : undefined));
    socket.resetAndDestroy();
    assert.equal((await ownRecord()).reason, 'CLIENT_RESET');
    const { reason, detail } = await shadowRecord();
    assert.deepEqual([reason, detail], ['MIRROR_GIVEN_UP', 'the connection that it copies ended with CLIENT_RESET']);
  });

  test('take places in limits as without a shadow: a copy has none, also of a destination that both share', async () => {
    const limited = { connections: { max: 3 } };
    const rule = { namespace: 'shop', name: 'web', host: '*', policy: limited, ports: {} };
    await use({ service: 'shop/web' }, { destinationRules: [rule] });
    const open = await Promise.all(Array.from({ length: 3 }, async () => await client().connect(vip())));
    await Promise.all(open.map(async (socket) => await once(socket, 'data')));
    await waitUntil('all are copied', async () => {
      const dumps = (await mesh.pool('node1').dump()).flatMap(({ connections }) => connections);
      return dumps.length === 6 ? true : undefined;
    });
    assert.equal(await answerTo(client(), vip(), 'x'), null, 'the fourth is one too many');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'CIRCUIT_OPEN');
    for (const socket of open) socket.end();
    await waitUntil('none is open', async () =>
      (await mesh.pool('node1').dump()).every(({ connections }) => connections.length === 0) ? true : undefined,
    );
    for (let left = 6; left > 0; left--) await mesh.closed('node1', outbound);
  });

  test('are as many as mirrorPercentage says', async () => {
    const percent = 30;
    await use({ percent });
    const times = 300;
    for (let left = times; left > 0; left -= 20) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => answerTo(client(), vip(), 'x')));
      assert.ok(answers.every((answer) => answer?.endsWith('x') === true));
    }
    await waitUntil('the records of all', () =>
      mesh.unclaimed('node1').filter(({ mirrorOf }) => mirrorOf === undefined).length === times ? true : undefined,
    );
    await waitUntil('no shadow is open', async () =>
      (await mesh.pool('node1').dump()).every(({ connections }) => connections.length === 0) ? true : undefined,
    );
    const copies = await waitUntil('the records of the shadows', () => {
      const found = mesh.unclaimed('node1').filter(({ mirrorOf }) => mirrorOf !== undefined);
      return found.length === shadowed.length ? found.length : undefined;
    });
    const expected = (times * percent) / 100;
    // Six standard deviations; chance here is the agent's own.
    const tolerance = 6 * Math.sqrt(expected * (1 - percent / 100));
    assert.ok(Math.abs(copies - expected) <= tolerance, `${copies} of ${times}`);
  });
});
