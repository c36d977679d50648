import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { LabNode } from '../../../lab/lab-node.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
const oneByOne = 40;
const atOnce = 150;
const rounds = 6;

describe('connections of one client to one address, with four workers', { timeout: patientMs(300_000) }, () => {
  let mesh: DataplaneMesh;
  /** By server: its clients, in the order of its accepts. */
  const accepted = new Map<string, Socket[]>();

  before(async () => {
    const meshed = (name: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app: name } });
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [meshed('web'), meshed('side')] },
          { name: 'node2', workloads: [meshed('db')] },
        ],
        externalHosts: ['outside'],
      },
      {
        workers: 4,
        settings: { http2Engine: 'lean', maxConnectionsPerWorkload: 2000 },
        snapshot: allowAll({ mesh: { ...allowAll().mesh, mtls: 'PERMISSIVE' } }),
      },
    );
    const servers: LabNode[] = [mesh.workload('side'), mesh.workload('db'), mesh.lab.host('outside')];
    for (const node of servers) {
      const clients: Socket[] = [];
      accepted.set(node.name, clients);
      await node.listen({ port }, (socket) => clients.push(socket));
    }
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
  });

  /** What each client sent, in the order in which the server accepted them. Takes them out. */
  async function orderAt(server: LabNode, count: number): Promise<number[]> {
    const clients = accepted.get(server.name) ?? [];
    await waitUntil('all clients', () => (clients.length === count ? true : undefined));
    return await Promise.all(clients.splice(0).map(numberOf));
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
        for (let at = 0; at < oneByOne; at++) sockets.push(numbered(await from.connect({ ip: to.ipv4, port }), at));
        assert.deepEqual(await orderAt(to, oneByOne), [...sockets.keys()]);
        for (const socket of sockets) socket.destroy();
      }
    });

    test(`arrive in the order in which they were opened at once, and are spread over the workers (${path})`, async () => {
      const [, from, to] = paths()[index]!;
      const sockets = await Promise.all(
        Array.from({ length: atOnce }, async (_, at) => numbered(await from.connect({ ip: to.ipv4, port }), at)),
      );
      assert.deepEqual(await orderAt(to, atOnce), [...sockets.keys()]);
      const dumps = await mesh.pool(path === 'plaintext' ? 'node2' : 'node1').dump();
      const busy = dumps.filter(({ connections }) => connections.length >= atOnce / 20);
      assert.ok(busy.length >= 2, `connections by worker: ${dumps.map((dump) => dump.connections.length).join()}`);
      for (const socket of sockets) socket.destroy();
      await waitUntil('the end of all', async () => {
        const open = [...(await mesh.pool('node1').dump()), ...(await mesh.pool('node2').dump())];
        return open.every(({ connections }) => connections.length === 0) ? true : undefined;
      });
    });
  }
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
