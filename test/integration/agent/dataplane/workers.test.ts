import assert from 'node:assert/strict';
import { once } from 'node:events';
import { execFileSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import { afterEach, describe, test } from 'node:test';
import type { DataplaneSettings } from '../../../../agent/dataplane/settings.js';
import { duplicate, listenerOf } from '../../../../agent/native/passed-sockets.js';
import { waitUntil } from '../../../lab/wait-until.js';
import {
  codeOf,
  errorOf,
  exchange,
  greetAndEcho,
  inbound,
  outbound,
  refusal,
} from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { workloadNamed } from '../../../support/routing/names.js';
import { patientSignal } from '../../../lab/patience.js';
import { patientMs } from '../../../lab/patience.js';

const port = 8080;
let mesh: DataplaneMesh | null = null;

async function start(
  init: {
    settings?: Partial<DataplaneSettings>;
    workers?: number;
    snapshot?: null;
    sharesSockets?: () => boolean;
  } = {},
): Promise<DataplaneMesh> {
  mesh = await DataplaneMesh.start(
    {
      hosts: [
        {
          name: 'node1',
          workloads: [
            { name: 'web', namespace: 'shop', serviceAccount: 'web' },
            { name: 'side', namespace: 'shop', serviceAccount: 'side' },
          ],
        },
        { name: 'node2', workloads: [{ name: 'db', namespace: 'shop', serviceAccount: 'db', labels: { app: 'db' } }] },
      ],
      services: [{ name: 'db', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'db' } }],
    },
    init,
  );
  for (const name of ['side', 'db']) await mesh.workload(name).listen({ port }, greetAndEcho);
  return mesh;
}

describe('a pool of data-plane workers', { timeout: patientMs(120_000) }, () => {
  afterEach(async () => {
    await mesh?.[Symbol.asyncDispose]();
    mesh = null;
  });

  test('refuses everything as NO_RULES_YET until rules come', async () => {
    const { workload, pool, closed } = bound(await start({ snapshot: null }));
    assert.equal(await refusal(workload('web'), { ip: workload('side').ipv4, port }), 'ECONNRESET');
    assert.equal((await closed('node1', outbound)).reason, 'NO_RULES_YET');
    const applied = once(pool('node1'), 'applied');
    pool('node1').send({ type: 'rules', snapshot: allowAll() });
    assert.deepEqual(await applied, [1]);
    assert.match(await exchange(await workload('web').connect({ ip: workload('side').ipv4, port }), 'x'), /x$/);
  });

  test('replaces a worker that dies, brings it to the state, and loses only its connections', async () => {
    const { workload, pool } = bound(await start({ workers: 2 }));
    const target = { ip: workload('db').ipv4, port };
    const open = await Promise.all(Array.from({ length: 12 }, () => workload('web').connect(target)));
    await Promise.all(open.map((socket) => once(socket, 'data')));
    const dumps = await pool('node1').dump();
    const victim = dumps[0];
    assert.ok(victim !== undefined && dumps.length === 2);
    const lost = once(pool('node1'), 'workerLost');
    const back = once(pool('node1'), 'workerOnline', { signal: patientSignal(30_000) });
    mesh?.crashWorker('node1', victim.workerIndex);
    await lost;
    const died = await waitUntil('the connections of the victim', () => {
      const gone = open.filter((socket) => socket.destroyed || socket.errored !== null || socket.readableEnded);
      return gone.length === victim.connections.length ? gone : undefined;
    });
    await back;
    await waitUntil('its listeners', async () => {
      const all = await pool('node1').dump();
      const listeners = all.reduce((sum, dump) => sum + dump.listeners.length, 0);
      return all.length === 2 && listeners === 6 && all.every((dump) => dump.revision === 1) ? true : undefined;
    });
    for (const socket of open) {
      if (!died.includes(socket)) assert.match(await exchange(socket, 'alive'), /alive$/);
    }
    for (let i = 0; i < 8; i++) assert.match(await exchange(await workload('web').connect(target), 'new'), /new$/);
  });

  test('strands no connection when a worker dies while another agent has the sockets and does not accept yet', async () => {
    const { workload, pool } = bound(await start({ workers: 2, sharesSockets: () => true }));
    const target = { ip: workload('side').ipv4, port };
    const ofSuccessor = pool('node1').sockets.all().map(duplicate);
    try {
      const [own] = pool('node1').sockets.all();
      // One of them accepts.
      for (const workerIndex of [0, 1]) {
        const lost = once(pool('node1'), 'workerLost', { signal: patientSignal(30_000) });
        mesh?.crashWorker('node1', workerIndex);
        await lost;
        const clients = await Promise.all(Array.from({ length: 6 }, () => workload('web').connect(target)));
        for (const client of clients) assert.match(await exchange(client, 'served'), /served$/);
      }
      assert.ok(own !== undefined && listenerOf(own) !== null, 'the socket goes on to listen');
    } finally {
      ofSuccessor.forEach(closeSync);
    }
  });

  test('spreads connections over its workers', async () => {
    const { workload, pool } = bound(await start({ workers: 2 }));
    const target = { ip: workload('side').ipv4, port };
    // One by one: of those that are opened at once a run waits for another worker for a second only, and then keeps its own.
    for (let i = 0; i < 40; i++) await once(await workload('web').connect(target), 'data');
    const counts = (await pool('node1').dump()).map(({ connections }) => connections.length);
    assert.equal(counts[0]! + counts[1]!, 40);
    assert.ok(Math.min(...counts) >= 15, `connections by worker: ${counts.join()}`);
  });

  test('holds the limit of connections of a workload over all workers', async () => {
    const { workload, closed } = bound(await start({ workers: 2, settings: { maxConnectionsPerWorkload: 5 } }));
    const target = { ip: workload('db').ipv4, port };
    const open = [];
    for (let i = 0; i < 5; i++) {
      const socket = await workload('web').connect(target);
      await once(socket, 'data');
      open.push(socket);
    }
    assert.equal(await refusal(workload('web'), target), 'ECONNRESET');
    assert.equal((await closed('node1', outbound)).reason, 'CONN_LIMIT');
    const [first] = open;
    assert.ok(first !== undefined);
    await exchange(first, '');
    await closed('node1', outbound);
    await closed('node2', inbound);
    assert.match(await exchange(await workload('web').connect(target), 'room'), /room$/);
  });

  test('holds the limit of connections of one peer, and leaves the other places to others', async () => {
    const { workload, closed } = bound(await start({ workers: 1, settings: { maxConnectionsPerPeer: 3 } }));
    const target = { ip: workload('db').ipv4, port };
    for (let i = 0; i < 3; i++) await once(await workload('web').connect(target), 'data');
    assert.equal(await refusal(workload('web'), target), 'ECONNRESET');
    const there = await closed('node2', inbound);
    assert.equal(there.reason, 'CONN_LIMIT');
    assert.match(there.detail, /^limit 3 of a thread for spiffe:\S+\/sa\/web at /);
    assert.equal((await closed('node1', outbound)).reason, 'CONN_LIMIT');
    assert.match(await exchange(await workload('side').connect(target), 'room'), /room$/);
  });

  test('refuses new connections of a workload while too many bytes wait in its open ones', async () => {
    const mebibyte = 1_048_576;
    const mesh = await start({ workers: 2, settings: { maxWaitingBytesPerWorkload: mebibyte } });
    const { workload } = bound(mesh);
    const target = { ip: workload('db').ipv4, port };
    const unread = await Promise.all(Array.from({ length: 4 }, () => workload('web').connect(target)));
    // Relayed at both ends, all of them, before one of them has too many: what is refused never comes to its end.
    await Promise.all(unread.map((socket) => once(socket, 'data', { signal: patientSignal(30_000) })));
    for (const socket of unread) {
      socket.pause();
      // All of it comes back.
      socket.end(Buffer.alloc(16 * mebibyte));
    }
    const tryOnce = async (): Promise<string> => {
      const socket = await workload('web').connect(target);
      return await exchange(socket, 'room').catch((error: unknown) => codeOf(error));
    };
    // Which of the ends has too many first is chance; both come to have them.
    const expected = /^\d{7,} bytes wait in the connections of shop\/web, limit 1048576$/;
    const refused = await waitUntil('a refusal for what waits here', async () => {
      if ((await tryOnce()) !== 'ECONNRESET') return undefined;
      return mesh.unclaimed('node1').find((record) => outbound(record) && expected.test(record.detail));
    });
    assert.equal(refused.reason, 'CONN_LIMIT');
    const ends = unread.map((socket) => once(socket, 'end', { signal: patientSignal(60_000) }));
    for (const socket of unread) socket.resume();
    await Promise.all(ends);
    await waitUntil('room', async () => ((await tryOnce()).endsWith('room') ? true : undefined));
  });

  test('lets go of a workload that leaves: connections, listeners and the namespace', async () => {
    const { lab, workload, pool, closed, localWorkloads } = bound(await start());
    const all = localWorkloads('node1');
    const web = all.find(({ name }) => name === 'shop/web');
    assert.ok(web !== undefined);
    const socket = await workload('web').connect({ ip: workload('db').ipv4, port });
    await once(socket, 'data');
    pool('node1').send({ type: 'workloads', workloads: all.filter((local) => local !== web) });
    assert.equal(await errorOf(socket), 'ECONNRESET');
    assert.equal((await closed('node1', outbound)).reason, 'DRAIN');
    // The proof that no socket and no descriptor is left: the deleted namespace really goes, and its link with it.
    await workload('web').close();
    const links = async (): Promise<number> => (await lab.host('node1').check(['ip', '-o', 'link'])).split('\n').length;
    const before = await links();
    execFileSync('ip', ['netns', 'del', workload('web').netns]);
    await waitUntil('the link to go', async () => ((await links()) < before ? true : undefined));
    const [dump] = await pool('node1').dump();
    assert.deepEqual(new Set(dump?.listeners.map((listener) => listener.workload)), new Set(['shop/side']));
    assert.deepEqual(dump?.tunnels, []);
    assert.equal(pool('node1').listeningOf(workloadNamed('shop/web')), null);
  });

  test('reports a namespace that cannot be opened, and takes it when it can', async () => {
    const { pool, localWorkloads } = bound(await start());
    const gone = { name: workloadNamed('shop/gone'), netnsPath: '/run/netns/culvert-none', netnsInode: 1 };
    const heard = once(pool('node1'), 'listening');
    pool('node1').send({ type: 'workloads', workloads: [gone, ...localWorkloads('node1')] });
    const [listening] = (await heard) as [{ workload: string; error: string | null }];
    assert.equal(listening.workload, 'shop/gone');
    assert.match(listening.error ?? '', /cannot be opened: ENOENT/);
    const stale = localWorkloads('node1').map((local) => ({ ...local, netnsInode: 7 }));
    pool('node1').send({ type: 'workloads', workloads: stale });
    const answer = await waitUntil(
      'the answer',
      () => pool('node1').listeningOf(workloadNamed('shop/web')) ?? undefined,
    );
    assert.match(answer.error ?? '', /replaced by another one/);
    assert.equal(pool('node1').isListening(workloadNamed('shop/web')), false);
    pool('node1').send({ type: 'workloads', workloads: localWorkloads('node1') });
    await waitUntil('listeners', () =>
      pool('node1').listeningOf(workloadNamed('shop/web'))?.error === null ? true : undefined,
    );
    assert.equal(pool('node1').isListening(workloadNamed('shop/web')), true);
    assert.equal(pool('node1').isListening(workloadNamed('shop/gone')), false);
  });

  test('keeps connections waiting to a workload of this node that comes at this moment', async () => {
    const running = await start();
    const [pool, all] = [running.pool('node1'), running.localWorkloads('node1')];
    const { identity } = running.entry('side');
    const steps = [
      {
        before: await running.certificates('node1', { except: identity }),
        after: await running.certificates('node1'),
      },
      {
        before: { type: 'workloads', workloads: all.filter(({ name }) => name !== 'shop/side') },
        after: { type: 'workloads', workloads: all },
      },
    ] as const;
    for (const { before, after } of steps) {
      pool.send(before);
      // It is answered after what came before it.
      await pool.dump();
      const socket = await running.workload('web').connect({ ip: running.workload('side').ipv4, port });
      await waitUntil('the connection waits', async () => {
        const [dump] = await pool.dump();
        return dump?.connections.length === 1 ? true : undefined;
      });
      pool.send(after);
      assert.match(await exchange(socket, before.type), new RegExp(`${before.type}$`));
      const { reason, path } = await running.closed('node1', outbound);
      assert.deepEqual([reason, path], ['OK', 'local'], before.type);
    }
    pool.send(steps[0].before);
    await pool.dump();
    const target = { ip: running.workload('side').ipv4, port };
    assert.equal(await refusal(running.workload('web'), target), 'ECONNRESET', 'it does not come');
    const { reason, detail } = await running.closed('node1', outbound);
    assert.equal(reason, 'NO_RULES_YET');
    assert.match(detail ?? '', /no certificate for/);
  });

  test('drains: finishes what ends in time, cuts the rest as DRAIN, and its threads end', async () => {
    const { workload, pool, closed } = bound(await start({ workers: 2 }));
    const target = { ip: workload('db').ipv4, port };
    const [quick, slow] = [await workload('web').connect(target), await workload('web').connect(target)];
    await Promise.all([once(quick, 'data'), once(slow, 'data')]);
    const drained = pool('node1').drain(3000);
    assert.match(await exchange(quick, 'done'), /done$/);
    assert.equal(await errorOf(slow), 'ECONNRESET');
    await drained;
    const reasons = [await closed('node1', outbound), await closed('node1', outbound)].map((record) => record.reason);
    assert.deepEqual(reasons.toSorted(), ['DRAIN', 'OK']);
    assert.equal(pool('node1').workersOnline.online, 0);
    assert.equal(await refusal(workload('web'), target), 'ECONNREFUSED', 'rules stay, nothing listens: closed');
  });
});

function bound(started: DataplaneMesh): {
  lab: DataplaneMesh['lab'];
  workload: DataplaneMesh['workload'];
  pool: DataplaneMesh['pool'];
  closed: DataplaneMesh['closed'];
  localWorkloads: DataplaneMesh['localWorkloads'];
} {
  return {
    lab: started.lab,
    workload: (name) => started.workload(name),
    pool: (host) => started.pool(host),
    closed: (host, matches) => started.closed(host, matches),
    localWorkloads: (host) => started.localWorkloads(host),
  };
}
