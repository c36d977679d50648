import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import type { RouteFaults, RouteMatch } from '../../../../shared/policy/traffic-documents.js';
import { patientMs } from '../../../lab/patience.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { waitUntil } from '../../../lab/wait-until.js';
import {
  answerTo,
  codeOf,
  errorOf,
  exchange,
  greetAndEcho,
  outbound,
  refusal,
} from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
const always = { percent: 100 };
const of = 'VirtualService/shop/web spec.tcp[0]';

/** Real connections to a service whose VirtualService has faults made. */
describe('connections that a VirtualService makes faults of', { timeout: patientMs(180_000) }, () => {
  let mesh: DataplaneMesh;
  let server: LabServer;
  let revision = 1;
  /** Connections that the application has seen. */
  let accepted = 0;

  before(async () => {
    const spec = (name: string, namespace = 'shop') => ({
      name,
      namespace,
      serviceAccount: name,
      labels: { app: name },
    });
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [spec('client'), spec('other', 'billing')] },
          { name: 'node2', workloads: [spec('web')] },
        ],
        services: [
          {
            name: 'web',
            namespace: 'shop',
            ports: [
              { port: 80, targetPort: port },
              { port: 81, targetPort: port, earlyAccept: false },
            ],
            selector: { app: 'web' },
          },
        ],
      },
      { workers: 2 },
    );
    server = await mesh.workload('web').listen({ port }, (socket) => {
      accepted += 1;
      greetAndEcho(socket);
    });
  });
  afterEach(() => {
    for (const host of ['node1', 'node2']) mesh.takeUnclaimed(host);
  });
  after(async () => {
    await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  async function use(faults: RouteFaults, matches: readonly RouteMatch[] = []): Promise<void> {
    const routes = [{ matches, choices: [{ subset: null, weight: 1 }], faults }];
    const virtualServices = [{ namespace: 'shop', name: 'web', host: 'web.shop.svc.cluster.local', routes }];
    await mesh.apply(allowAll({ revision: ++revision, virtualServices }));
  }

  const vip = (dialled = 80) => ({ ip: mesh.lab.vip('web').ipv4, port: dialled });
  const client = (name = 'client') => mesh.workload(name);
  /** The record of a connection that had one made. */
  const faulted = async () => await mesh.closed('node1', (record) => outbound(record) && record.faults !== undefined);
  const connected = async (): Promise<Socket> => await client().connect(vip());
  /** How long something takes, in milliseconds. */
  async function timed(what: () => Promise<unknown>): Promise<number> {
    const fromMs = performance.now();
    await what();
    return performance.now() - fromMs;
  }

  test('wait as long as the delay says, and go on as without it', async () => {
    await use({ delay: { ...always, delayMs: 700 } });
    const ms = await timed(async () => assert.match(await exchange(await connected(), 'x'), /^hello .*\nx$/));
    assert.ok(ms >= 698, `${ms} ms`);
    const { reason, faults, route } = await faulted();
    assert.deepEqual([reason, faults, route?.route], ['OK', ['delay'], of]);
    // What the agent of the other end sees has no fault.
    const inbound = await mesh.closed('node2', () => true);
    assert.deepEqual([inbound.reason, inbound.faults], ['OK', undefined]);
  });

  test('are reset, and the application sees none of them', async () => {
    await use({ abort: always });
    const before_ = accepted;
    for (let i = 0; i < 4; i++) assert.equal(await refusal(client(), vip()), 'ECONNRESET');
    for (let i = 0; i < 4; i++) {
      const { reason, detail, faults, destination } = await faulted();
      assert.deepEqual([reason, detail, faults], ['FAULT_INJECTED', `fault.abort of ${of}`, ['abort']]);
      assert.equal(destination.workload, 'shop/web');
    }
    assert.equal(accepted, before_);
  });

  test('are refused in connect(2) where the port is accepted late, and a delay is one of connect(2)', async () => {
    await use({ abort: always });
    await assert.rejects(client().connect(vip(81)), (error) => codeOf(error) === 'ECONNREFUSED');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'FAULT_INJECTED');
    await use({ delay: { ...always, delayMs: 700 } });
    let socket: Socket | null = null;
    const ms = await timed(async () => (socket = await client().connect(vip(81))));
    assert.ok(ms >= 698, `${ms} ms`);
    assert.match(await exchange(socket!, 'x'), /x$/);
    assert.deepEqual((await faulted()).faults, ['delay']);
  });

  test('are as many as the percentage says, of the clients of the route alone', async () => {
    const percent = 30;
    await use({ abort: { percent } }, [{ sourceNamespace: 'shop' }]);
    const times = 300;
    let refused = 0;
    for (let left = times; left > 0; left -= 20) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => answerTo(client(), vip(), 'x')));
      refused += answers.filter((answer) => answer === null).length;
    }
    const expected = (times * percent) / 100;
    // Six standard deviations; chance here is the agent's own.
    const tolerance = 6 * Math.sqrt(expected * (1 - percent / 100));
    assert.ok(Math.abs(refused - expected) <= tolerance, `${refused} of ${times}`);
    const records = await waitUntil('the records of all', () => {
      const found = mesh.unclaimed('node1').filter(outbound);
      return found.length === times ? found : undefined;
    });
    assert.equal(records.filter(({ reason }) => reason === 'FAULT_INJECTED').length, refused);
    for (let i = 0; i < 20; i++) assert.match((await answerTo(client('other'), vip(), 'x')) ?? '', /x$/);
  });

  test('move as many bytes in a second as throttle says, each way and each by itself, and all of them', async () => {
    const bytesPerSecond = 150_000;
    await use({ throttle: { ...always, bytesPerSecond } });
    const text = 'x'.repeat(600_000);
    const texts = await Promise.all(
      [1, 2].map(async () => {
        let answer: string | null = null;
        const ms = await timed(async () => (answer = await answerTo(client(), vip(), text)));
        assert.match(answer ?? '', /^hello .*\nx+$/);
        return { bytes: (answer ?? '').length, ms };
      }),
    );
    for (const { bytes, ms } of texts) {
      assert.ok(bytes > text.length, `${bytes} bytes`);
      // What the last read brought is sent on at once, on each of the two ways.
      const leastMs = ((text.length - 2 * 65_536) / bytesPerSecond) * 1000;
      assert.ok(ms >= leastMs, `${ms} ms`);
      assert.ok(ms <= 7500, `${ms} ms: one waits for the other`);
    }
    assert.deepEqual((await faulted()).faults, ['throttle']);
  });

  test('that are open stay as they are when the faults change, and new ones follow at once', async () => {
    await use({});
    const open = await connected();
    await once(open, 'data');
    await use({ abort: always });
    assert.equal(await refusal(client(), vip()), 'ECONNRESET');
    assert.match(await exchange(open, 'still'), /still$/);
    await use({ abort: { ...always, expiresAtMs: Date.now() - 1 } });
    assert.match((await answerTo(client(), vip(), 'x')) ?? '', /x$/);
  });

  test('end when the fault expires, without a new revision', async () => {
    await use({ abort: { ...always, expiresAtMs: Date.now() + 3000 } });
    assert.equal(await refusal(client(), vip()), 'ECONNRESET');
    await waitUntil('one is served', async () =>
      (await answerTo(client(), vip(), 'x'))?.endsWith('x') === true ? true : undefined,
    );
  });

  test('that wait are cut by rules that deny them', async () => {
    await use({ delay: { ...always, delayMs: 60_000 } });
    const socket = await connected();
    await waitUntil('it waits', async () =>
      (await mesh.pool('node1').dump()).some(({ connections }) => connections.length === 1) ? true : undefined,
    );
    const denying = allowAll({ revision: ++revision });
    await mesh.apply({ ...denying, mesh: { ...denying.mesh, defaultAction: 'deny', outbound: 'deny' } });
    assert.equal(await errorOf(socket), 'ECONNRESET');
    const { reason, faults } = await faulted();
    assert.deepEqual([reason, faults], ['POLICY_TERMINATED', ['delay']]);
  });

  test('whose client left while they waited are connected and end, and leave no place taken', async () => {
    await use({ delay: { ...always, delayMs: 700 } });
    const socket = await connected();
    socket.destroy();
    const { reason, faults } = await faulted();
    assert.deepEqual(faults, ['delay']);
    assert.ok(['OK', 'CLIENT_RESET'].includes(reason), reason);
    assert.ok((await mesh.pool('node1').dump()).every(({ connections }) => connections.length === 0));
  });
});
