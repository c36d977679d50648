import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import type { LabNode } from '../../../lab/lab-node.js';
import { patientMs, patientSignal } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { propertyRuns } from '../../../support/property-runs.js';

const port = 8080;
const oneByOne = 40;
const atOnce = 150;
const rounds = propertyRuns(6);
const pairings = propertyRuns(15);
const bulkBytes = 200_000;

const meshed = (name: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app: name } });
const snapshot = allowAll({ mesh: { ...allowAll().mesh, mtls: 'PERMISSIVE' } });

for (const workers of [1, 2, 4]) {
  describe(`connections of one client to one address, workers: ${workers}`, { timeout: patientMs(300_000) }, () => {
    let mesh: DataplaneMesh;
    /** By server: its clients, in the order of its accepts. */
    const accepted = new Map<string, Socket[]>();
    /** Both ends of what a test opened. */
    const held = new Set<Socket>();

    before(async () => {
      mesh = await DataplaneMesh.start(
        {
          hosts: [
            { name: 'node1', workloads: [meshed('web'), meshed('side')] },
            { name: 'node2', workloads: [meshed('db')] },
          ],
          externalHosts: ['outside'],
        },
        {
          workers,
          settings: {
            http2Engine: 'lean',
            maxConnectionsPerWorkload: 2000,
            maxConnectionsPerPeer: 2000,
            listenBacklog: 511,
          },
          snapshot,
        },
      );
      const servers: LabNode[] = [mesh.workload('side'), mesh.workload('db'), mesh.lab.host('outside')];
      for (const node of servers) {
        const clients: Socket[] = [];
        accepted.set(node.name, clients);
        await node.listen({ port }, (socket) => clients.push(hold(socket)));
      }
    });

    // Also when it failed: the next test needs the limits and the order of an idle mesh.
    afterEach(async () => {
      for (const socket of held) socket.destroy();
      await untilAllEnded();
      for (const socket of held) socket.destroy();
      for (const clients of accepted.values()) clients.length = 0;
    });

    after(async () => {
      await mesh[Symbol.asyncDispose]();
    });

    function hold(socket: Socket): Socket {
      held.add(socket);
      return socket.once('close', () => held.delete(socket));
    }

    async function open(from: LabNode, to: LabNode): Promise<Socket> {
      return hold(await from.connect({ ip: to.ipv4, port }));
    }

    async function acceptedBy(server: LabNode, count: number): Promise<Socket[]> {
      const clients = accepted.get(server.name) ?? [];
      await waitUntil('all clients', () => (clients.length === count ? true : undefined));
      return clients.splice(0);
    }

    /** What each client sent, in the order in which the server accepted them. Takes them out. */
    async function orderAt(server: LabNode, count: number): Promise<number[]> {
      return await Promise.all((await acceptedBy(server, count)).map(numberOf));
    }

    async function untilAllEnded(): Promise<void> {
      await waitUntil('the end of all', async () => {
        const open = [...(await mesh.pool('node1').dump()), ...(await mesh.pool('node2').dump())];
        return open.every(({ connections }) => connections.length === 0) ? true : undefined;
      });
    }

    const paths = (): readonly (readonly [path: string, from: LabNode, to: LabNode])[] => [
      ['hbone', mesh.workload('web'), mesh.workload('db')],
      ['local', mesh.workload('web'), mesh.workload('side')],
      ['plaintext', mesh.lab.host('outside'), mesh.workload('db')],
      ['passthrough', mesh.workload('web'), mesh.lab.host('outside')],
    ];

    for (const [index, path] of ['hbone', 'local', 'plaintext', 'passthrough'].entries()) {
      test(`arrive in the order in which its connects returned (${path})`, async () => {
        const [, from, to] = paths()[index]!;
        for (let round = 0; round < rounds; round++) {
          const sockets: Socket[] = [];
          for (let at = 0; at < oneByOne; at++) sockets.push(numbered(await open(from, to), at));
          assert.deepEqual(await orderAt(to, oneByOne), [...sockets.keys()]);
          for (const socket of sockets) socket.destroy();
        }
      });

      test(`arrive in the order in which they were opened at once (${path})`, async () => {
        const [, from, to] = paths()[index]!;
        const sockets = await Promise.all(
          Array.from({ length: atOnce }, async (_, at) => numbered(await open(from, to), at)),
        );
        assert.deepEqual(await orderAt(to, atOnce), [...sockets.keys()]);
      });

      test(`may mean something by their order, as those of a test of both directions do (${path})`, async () => {
        const [, from, to] = paths()[index]!;
        for (let round = 0; round < pairings; round++) {
          const [up, down] = [await open(from, to), await open(from, to)];
          up.end(Buffer.alloc(bulkBytes));
          // The first one that it accepts is read, and the second one is written to. It says nothing before.
          const [first, second] = await acceptedBy(to, 2);
          second!.end(Buffer.alloc(bulkBytes));
          assert.deepEqual(await Promise.all([first!, down].map(bytesOf)), [bulkBytes, bulkBytes]);
          for (const socket of [up, down, first!, second!]) socket.destroy();
        }
      });

      if (workers === 1) continue;
      test(`are spread over the workers (${path})`, async () => {
        const [, from, to] = paths()[index]!;
        for (let at = 0; at < oneByOne; at++) {
          numbered(await open(from, to), at);
          // It has reached the server, so the next one is free to go to any worker.
          await orderAt(to, 1);
        }
        const dumps = await mesh.pool(path === 'plaintext' ? 'node2' : 'node1').dump();
        const byWorker = dumps.map(({ connections }) => connections.length);
        assert.ok(Math.min(...byWorker) >= oneByOne / workers / 2, `connections by worker: ${byWorker.join()}`);
      });
    }
  });
}

describe('a connection that hangs while it is opened', { timeout: patientMs(200_000) }, () => {
  test('does not hold those that follow it to the same address', async () => {
    const server = (name: string) => ({ ...meshed(name), labels: { app: 'server' } });
    await using mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [meshed('web'), server('side')] },
          { name: 'node2', workloads: [server('db')] },
        ],
        services: [
          { name: 'both', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'server' } },
        ],
      },
      { workers: 2, settings: { connectTimeoutMs: patientMs(100_000) }, snapshot },
    );
    // Its kernel answers no SYN, so half of the connections are not opened before the time is over.
    await mesh.workload('side').check(['iptables', '-I', 'INPUT', '-p', 'tcp', '--dport', String(port), '-j', 'DROP']);
    const clients: Socket[] = [];
    await mesh.workload('db').listen({ port }, (socket) => clients.push(socket));
    const { ipv4: ip } = mesh.lab.vip('both');
    const sockets: Socket[] = [];
    for (let at = 0; at < oneByOne; at++) {
      sockets.push(numbered(await mesh.workload('web').connect({ ip, port: 80 }), at));
    }
    await waitUntil('the other half', () => (clients.length === oneByOne / 2 ? true : undefined));
    const numbers = await Promise.all(clients.map(numberOf));
    assert.deepEqual(
      numbers,
      numbers.toSorted((a, b) => a - b),
    );
    for (const socket of [...sockets, ...clients]) socket.destroy();
  });
});

function numbered(socket: Socket, at: number): Socket {
  socket.write(`${at}\n`);
  return socket;
}

async function numberOf(socket: Socket): Promise<number> {
  let text = '';
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    if (text.endsWith('\n')) break;
  }
  socket.once('end', () => socket.end()).resume();
  return Number(text);
}

/** How many bytes it receives until the other side ends. */
async function bytesOf(socket: Socket): Promise<number> {
  await once(socket.resume(), 'end', { signal: patientSignal(20_000) });
  return socket.bytesRead;
}
