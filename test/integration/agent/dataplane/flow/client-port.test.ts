import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import type { ClosedConnection } from '../../../../../agent/dataplane/report/closed-connection.js';
import { formatHostPort, parseIp, type HostPort } from '../../../../../shared/address.js';
import type { LabNode } from '../../../../lab/lab-node.js';
import { patientMs, patientSignal } from '../../../../lab/patience.js';
import { inbound, outbound } from '../../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../../support/agent/dataplane-mesh.js';

const port = 8080;
/** Within the `ip_local_port_range` of a new namespace (32768–60999), and outside of it. */
const clientPort = 41_414;
const unusualPort = 20_202;

describe('the client that an application and the records show', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;

  before(async () => {
    const meshed = (name: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app: name } });
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [meshed('web'), meshed('side')] },
          { name: 'node2', workloads: [meshed('db'), { ...meshed('plain'), isMeshed: false }] },
        ],
        services: [
          { name: 'self', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'web' } },
        ],
        externalHosts: ['outside'],
      },
      { snapshot: allowAll({ mesh: { ...allowAll().mesh, mtls: 'PERMISSIVE' } }) },
    );
    const nodes: LabNode[] = ['web', 'side', 'db', 'plain'].map((name) => mesh.workload(name));
    for (const node of [...nodes, mesh.lab.host('outside')]) await node.listen({ port }, sayClient);
  });

  afterEach(() => {
    for (const host of ['node1', 'node2']) mesh.takeUnclaimed(host);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
  });

  const recordsOf = async (...sides: ['node1' | 'node2', typeof inbound][]): Promise<ClosedConnection[]> =>
    await Promise.all(sides.map(async ([host, side]) => await mesh.closed(host, side)));

  for (const family of ['ipv4', 'ipv6'] as const) {
    const at = (name: string): string => mesh.workload(name)[family];

    test(`are its own address and port through a tunnel, in both records (${family})`, async () => {
      const { own, seen } = await visit(mesh.workload('web'), { ip: at('db'), port });
      assert.equal(seen, own);
      for (const record of await recordsOf(['node1', outbound], ['node2', inbound])) {
        assert.deepEqual([record.path, shown(record)], ['hbone', [own, undefined]]);
      }
    });

    test(`are its own on the same host (${family})`, async () => {
      const { own, seen } = await visit(mesh.workload('web'), { ip: at('side'), port });
      assert.equal(seen, own);
      const [record] = await recordsOf(['node1', outbound]);
      assert.deepEqual([record?.path, record && shown(record)], ['local', [own, undefined]]);
    });

    test(`are those of a plain client outside the mesh (${family})`, async () => {
      const { own, seen } = await visit(mesh.lab.host('outside'), { ip: at('db'), port });
      assert.equal(seen, own);
      const [record] = await recordsOf(['node2', inbound]);
      assert.deepEqual([record?.path, record && shown(record)], ['plaintext', [own, undefined]]);
    });

    test(`are both in the record where the agent cannot dial from that port (${family})`, async () => {
      const targets = [mesh.lab.host('outside')[family], at('plain'), mesh.lab.vip('self')[family]];
      for (const [index, ip] of targets.entries()) {
        const { own, seen } = await visit(mesh.workload('web'), { ip, port: index === 2 ? 80 : port });
        assert.notEqual(seen, own);
        const [record] = await recordsOf(['node1', outbound]);
        assert.deepEqual(record && shown(record), [own, seen]);
      }
    });

    test(`are its own where one port of it has connections to several addresses (${family})`, async () => {
      const from = mesh.workload('web');
      const localPort = clientPort + 10;
      const targets = [at('db'), at('side'), mesh.lab.host('outside')[family]];
      const visits: Visit[] = [];
      for (const ip of targets) visits.push(await open(from, { ip, port, localPort }));
      assert.deepEqual([visits[0]?.seen, visits[1]?.seen], [visits[0]?.own, visits[0]?.own]);
      for (const { socket } of visits) socket.destroy();
      const records = await recordsOf(
        ['node1', outbound],
        ['node1', outbound],
        ['node1', outbound],
        ['node2', inbound],
      );
      for (const { source } of records) assert.equal(source.address?.port, localPort);
    });

    test(`are its own where one port of it has connections to several ports of one address (${family})`, async () => {
      await using _other = await mesh.workload('db').listen({ port: port + 1 }, sayClient);
      const clients = [
        { from: mesh.workload('web'), hasOwnRecord: true },
        { from: mesh.lab.host('outside'), hasOwnRecord: false },
      ];
      for (const { from, hasOwnRecord } of clients) {
        const target = { ip: at('db'), localPort: clientPort + 20 };
        const visits = [await open(from, { ...target, port }), await open(from, { ...target, port: port + 1 })];
        for (const { own, seen } of visits) assert.equal(seen, own);
        assert.equal(visits[0]?.own, visits[1]?.own);
        for (const { socket } of visits) socket.destroy();
        const records = await recordsOf(['node2', inbound], ['node2', inbound]);
        if (hasOwnRecord) records.push(...(await recordsOf(['node1', outbound], ['node1', outbound])));
        for (const record of records) assert.deepEqual(shown(record), [visits[0]?.own, undefined]);
      }
    });

    test(`an application may listen on a port that a client has (${family})`, async () => {
      const db = mesh.workload('db');
      const first = await open(mesh.workload('web'), { ip: at('db'), port, localPort: clientPort + 1 });
      assert.equal(first.seen, first.own);
      await using server = await db.listen({ port: clientPort + 1 }, sayClient);
      assert.equal(server.port, clientPort + 1);
      first.socket.destroy();
      await recordsOf(['node1', outbound], ['node2', inbound]);
    });

    test(`another port is taken where the application has that one, and the record has both (${family})`, async () => {
      await using _server = await mesh.workload('db').listen({ port: clientPort + 2 }, sayClient);
      for (const localPort of [clientPort + 2, unusualPort]) {
        const { own, seen } = await visit(mesh.workload('web'), { ip: at('db'), port, localPort });
        assert.equal(own, formatHostPort({ ip: mesh.workload('web')[family], port: localPort }));
        assert.notEqual(seen, own);
        const [, record] = await recordsOf(['node1', outbound], ['node2', inbound]);
        assert.deepEqual(record && shown(record), [own, seen]);
      }
    });
  }
});

/** Tells each client the address and port that it sees, and lets the client close. */
function sayClient(socket: Socket): void {
  socket.on('error', () => {});
  socket.write(addressOf(socket.remoteAddress, socket.remotePort));
  socket.on('end', () => socket.end()).resume();
}

function addressOf(text: string | undefined, ofPort: number | undefined): string {
  const ip = parseIp(text ?? '');
  if (ip === undefined || ofPort === undefined) throw new Error(`no address: ${text}`);
  return formatHostPort({ ip, port: ofPort });
}

type Visit = { readonly socket: Socket; readonly own: string; readonly seen: string };
type Target = { readonly ip: string; readonly port: number; readonly localPort?: number };

/** `own`: what the client's kernel says; `seen`: what the server says. */
async function open(from: LabNode, target: Target): Promise<Visit> {
  const socket = await from.connect(target);
  const [answer] = (await once(socket, 'data', { signal: patientSignal(20_000) })) as [Buffer];
  return { socket, own: addressOf(socket.localAddress, socket.localPort), seen: answer.toString() };
}

async function visit(from: LabNode, target: Target): Promise<Visit> {
  const made = await open(from, target);
  const closed = once(made.socket, 'close', { signal: patientSignal(20_000) });
  made.socket.end();
  await closed;
  return made;
}

function shown({ source, dialledFrom }: ClosedConnection): [string | undefined, string | undefined] {
  const text = (address: HostPort | null | undefined): string | undefined =>
    address === null || address === undefined ? undefined : formatHostPort(address);
  return [text(source.address), text(dialledFrom)];
}
