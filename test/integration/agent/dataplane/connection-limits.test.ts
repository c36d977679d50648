import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { ConnectionLimits, TrafficPolicy, TrafficRoute } from '../../../../shared/policy/traffic-documents.js';
import { patientMs } from '../../../lab/patience.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { waitUntil } from '../../../lab/wait-until.js';
import {
  answerTo,
  errorOf,
  exchange,
  greetAndEcho,
  outbound,
  refusal,
} from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;

/** Real connections to a service whose DestinationRule bounds them. Two workers, whose counts are one. */
describe('connections to a service with a connectionPool', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  let revision = 1;
  const servers: LabServer[] = [];

  before(async () => {
    const spec = (name: string, app: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app } });
    const stranger = { ...spec('stranger', 'stranger'), namespace: 'billing' };
    const topology = {
      hosts: [
        { name: 'node1', workloads: [spec('client', 'client'), spec('near', 'near'), stranger] },
        { name: 'node2', workloads: [spec('a', 'web'), spec('b', 'web')] },
      ],
      services: [
        { name: 'web', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'web' } },
        { name: 'near', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'near' } },
      ],
    };
    mesh = await DataplaneMesh.start(topology, { workers: 2 });
    for (const name of ['a', 'b', 'near']) servers.push(await mesh.workload(name).listen({ port }, greetAndEcho));
  });
  after(async () => {
    for (const server of servers) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  async function limit(connections: ConnectionLimits, rest: TrafficPolicy = {}): Promise<void> {
    const rule = { namespace: 'shop', name: 'r', host: '*.shop.svc.cluster.local', ports: {} };
    const destinationRules = [{ ...rule, policy: { ...rest, connections } }];
    await mesh.apply(allowAll({ revision: ++revision, destinationRules }));
  }

  const vip = (name = 'web') => ({ ip: mesh.lab.vip(name).ipv4, port: 80 });

  async function opened(name = 'web', from = 'client'): Promise<Socket> {
    const socket = await mesh.workload(from).connect(vip(name));
    await once(socket, 'data');
    return socket;
  }

  /** Drops SYNs to the application, as a host does that is gone. */
  async function silent(name: string, isSilent: boolean): Promise<void> {
    const rule = ['INPUT', '-p', 'tcp', '--dport', String(port), '--syn', '-j', 'DROP'];
    await mesh.workload(name).check(['iptables', '-w', '5', isSilent ? '-I' : '-D', ...rule]);
  }

  test('are refused beyond maxConnections as CIRCUIT_OPEN, over all workers, and taken again when one ends', async () => {
    await limit({ max: 4 });
    const open: Socket[] = [];
    for (let i = 0; i < 4; i++) open.push(await opened());
    for (let i = 0; i < 3; i++) {
      assert.equal(await refusal(mesh.workload('client'), vip()), 'ECONNRESET');
      const { reason, detail, service, rule } = await mesh.closed('node1', outbound);
      assert.deepEqual([reason, service, rule], ['CIRCUIT_OPEN', 'shop/web', null]);
      assert.equal(
        detail,
        '4 connections to shop/web:80 are open, the limit (maxConnections of DestinationRule shop/r)',
      );
    }
    // Another destination has a circuit of its own.
    assert.match(await exchange(await opened('near'), 'x'), /x$/);
    await mesh.closed('node1', outbound);
    await exchange(open.pop()!, 'bye');
    await mesh.closed('node1', outbound);
    open.push(await opened());
    for (const socket of open) assert.match(await exchange(socket, 'still'), /still$/);
    for (let i = 0; i < 4; i++) assert.equal((await mesh.closed('node1', outbound)).reason, 'OK');
  });

  test('take places of the rule for their client, and none of that for others', async () => {
    const rule = { name: 'r', host: 'web.shop.svc.cluster.local', ports: {}, policy: { connections: { max: 1 } } };
    const destinationRules = ['billing', 'shop'].map((namespace) => ({ ...rule, namespace }));
    await mesh.apply(allowAll({ revision: ++revision, destinationRules }));
    const open = [await opened('web', 'client'), await opened('web', 'stranger')];
    for (const [name, namespace] of [
      ['client', 'shop'],
      ['stranger', 'billing'],
    ] as const) {
      assert.equal(await refusal(mesh.workload(name), vip()), 'ECONNRESET');
      const { reason, detail } = await mesh.closed('node1', outbound);
      const limit = `the limit (maxConnections of DestinationRule ${namespace}/r)`;
      assert.deepEqual([reason, detail], ['CIRCUIT_OPEN', `1 connections to shop/web:80 are open, ${limit}`]);
    }
    for (const socket of open) {
      assert.match(await exchange(socket, 'x'), /x$/);
      assert.equal((await mesh.closed('node1', outbound)).reason, 'OK');
    }
  });

  test('keep the places of a limit no longer than they live, also those that cannot be opened', async () => {
    await limit({ max: 1 });
    await servers[0]!.close();
    await servers[1]!.close();
    for (let i = 0; i < 4; i++) {
      assert.equal(await refusal(mesh.workload('client'), vip()), 'ECONNRESET');
      assert.equal((await mesh.closed('node1', outbound)).reason, 'CONNECT_REFUSED');
    }
    for (const [index, name] of ['a', 'b'].entries()) {
      servers[index] = await mesh.workload(name).listen({ port }, greetAndEcho);
    }
  });

  test('try the next endpoint when one does not answer within connectTimeout', async () => {
    await limit({ connectTimeoutMs: 250 });
    await silent('a', true);
    for (let i = 0; i < 4; i++) {
      assert.match(await exchange(await opened(), 'x'), /x$/);
      assert.equal((await mesh.closed('node1', outbound)).destination.workload, 'shop/b');
    }
    await silent('b', true);
    assert.equal(await refusal(mesh.workload('client'), vip()), 'ECONNRESET');
    const { reason, detail } = await mesh.closed('node1', outbound);
    assert.equal(reason, 'CONNECT_TIMEOUT');
    assert.match(detail, /^ETIMEDOUT .*:8080: connectTimeout of its DestinationRule$/);
    await silent('near', true);
    assert.equal(await refusal(mesh.workload('client'), vip('near')), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'CONNECT_TIMEOUT');
    for (const name of ['a', 'b', 'near']) await silent(name, false);
  });

  test('try as many endpoints as their route says, for as long as it says', async () => {
    const rule = { namespace: 'shop', name: 'r', host: 'web.shop.svc.cluster.local', ports: {}, policy: {} };
    const lead = async (route: Partial<TrafficRoute>, policy: TrafficPolicy = {}): Promise<void> => {
      const routes = [{ matches: [], choices: [{ subset: null, weight: 1 }], ...route }];
      const virtualServices = [{ namespace: 'shop', name: 'web', host: rule.host, routes }];
      const inTurns = { ...rule, policy: { balancing: 'round-robin', ...policy } } as const;
      await mesh.apply(allowAll({ revision: ++revision, destinationRules: [inTurns], virtualServices }));
    };
    /**
     * Who answered four connections, whose endpoint failed, and why the last one did. Each worker takes its endpoints in turn,
     * and which of the two has how many of the four is the kernel's choice: of three, each endpoint is the first for
     * one at least.
     */
    const ends = async (): Promise<{ answered: string[]; failed: string[]; why: string }> => {
      const [answered, failed] = [new Set<string>(), new Set<string>()];
      let why = '';
      for (let i = 0; i < 4; i++) {
        await answerTo(mesh.workload('client'), vip(), 'x');
        const { reason, detail, destination } = await mesh.closed('node1', outbound);
        (reason === 'OK' ? answered : failed).add(destination.workload ?? '');
        if (reason !== 'OK') why = detail.replace(/^.*8080: /, '');
      }
      return { answered: [...answered], failed: [...failed], why };
    };
    const onlyB = { answered: ['shop/b'], failed: [], why: '' };
    const failedA = { answered: ['shop/b'], failed: ['shop/a'] };
    await servers[0]!.close();
    await lead({ attempts: 0 });
    assert.deepEqual({ ...(await ends()), why: '' }, { ...failedA, why: '' });
    await lead({ attempts: 1 });
    assert.deepEqual(await ends(), onlyB);
    await lead({ attempts: 1 }, { retries: { percent: 0, minConcurrency: 0 } });
    const withoutBudget = await ends();
    assert.deepEqual(withoutBudget, { ...failedA, why: withoutBudget.why });
    assert.match(withoutBudget.why, /; not tried again: retryBudget$/);
    await lead({ attempts: 1 }, { retries: { percent: 100, minConcurrency: 0 } });
    assert.deepEqual(await ends(), onlyB);
    servers[0] = await mesh.workload('a').listen({ port }, greetAndEcho);
    await silent('a', true);
    await lead({ attempts: 1, perTryTimeoutMs: 2000 });
    assert.deepEqual(await ends(), onlyB);
    await lead({ attempts: 0, perTryTimeoutMs: 2000 });
    assert.deepEqual(await ends(), { ...failedA, why: 'perTryTimeout of its VirtualService' });
    await lead({ attempts: 1, timeoutMs: 2000 });
    assert.deepEqual(await ends(), { ...failedA, why: 'timeout of its VirtualService' });
    // What was over in time has given its place in the budget back.
    const one = { retries: { percent: 0, minConcurrency: 1 } };
    await lead({ attempts: 1, timeoutMs: 2000 }, one);
    assert.deepEqual(await ends(), { ...failedA, why: 'timeout of its VirtualService' });
    await lead({ attempts: 1, perTryTimeoutMs: 2000 }, one);
    assert.deepEqual(await ends(), onlyB);
    await silent('a', false);
  });

  test('are refused while as many are being opened as maxPendingConnections says, and not for those that are open', async () => {
    await limit({ maxPending: 2 });
    const open = [await opened(), await opened(), await opened()];
    await silent('a', true);
    await silent('b', true);
    const waiting = [await mesh.workload('client').connect(vip()), await mesh.workload('client').connect(vip())];
    assert.equal(await refusal(mesh.workload('client'), vip()), 'ECONNRESET');
    const { reason, detail } = await mesh.closed('node1', outbound);
    assert.deepEqual(
      [reason, detail],
      [
        'CIRCUIT_OPEN',
        '2 connections to shop/web:80 are being opened, the limit (maxPendingConnections of DestinationRule shop/r)',
      ],
    );
    for (const socket of waiting) socket.destroy();
    await silent('a', false);
    await silent('b', false);
    await waitUntil(
      'a place',
      async () => {
        const socket = await mesh.workload('client').connect(vip());
        const answered = await Promise.race([once(socket, 'data'), errorOf(socket).catch(() => 'closed')]);
        socket.destroy();
        return Array.isArray(answered) ? true : undefined;
      },
      20_000,
    );
    for (const socket of open) assert.match(await exchange(socket, 'still'), /still$/);
    await waitUntil('no connection', async () => {
      const dumps = await mesh.pool('node1').dump();
      return dumps.every(({ connections }) => connections.length === 0) ? true : undefined;
    });
  });

  test('end after idleTimeout without a byte, and after maxConnectionDuration whatever moves', async () => {
    await limit({ idleTimeoutMs: 2000 });
    const idle = await opened();
    assert.equal(await errorOf(idle), 'ECONNRESET');
    await mesh.closed('node1', ({ reason }) => reason === 'IDLE_TIMEOUT');
    await limit({ maxDurationMs: 2000 });
    const busy = await opened();
    const moving = setInterval(() => busy.write('x'), 50);
    assert.equal(await errorOf(busy), 'ECONNRESET');
    clearInterval(moving);
    await mesh.closed('node1', ({ reason }) => reason === 'MAX_DURATION');
  });
});
