import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as silenceOf } from 'node:timers/promises';
import { capturePorts } from '../../../../agent/ports.js';
import type { KeepalivePolicy } from '../../../../shared/policy/traffic-documents.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { errorOf, exchange, greetAndEcho, outbound } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
/** Silent for 4 s: gone. */
const brisk: KeepalivePolicy = { idleSeconds: 1, everySeconds: 1, probes: 3 };
const longerMs = 8000;
const noticedWithinMs = 40_000;

/** Applications without keepalive, and a DestinationRule that has one. */
describe('tcpKeepalive of a DestinationRule', { timeout: patientMs(180_000) }, () => {
  let mesh: DataplaneMesh;
  let revision = 1;
  const servers: LabServer[] = [];

  before(async () => {
    const spec = (name: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app: name } });
    const plain = { ...spec('plain'), isMeshed: false };
    const topology = {
      hosts: [
        { name: 'node1', workloads: [spec('client'), spec('near')] },
        { name: 'node2', workloads: [spec('peer'), plain] },
      ],
      services: ['near', 'peer', 'plain'].map((name) => ({
        name,
        namespace: 'shop',
        ports: [{ port: 80, targetPort: port }],
        selector: { app: name },
      })),
    };
    // The tunnel itself lives longer than the test.
    mesh = await DataplaneMesh.start(topology, { settings: { tunnelPingTimeoutMs: 120_000 } });
    for (const name of ['near', 'peer', 'plain']) {
      servers.push(await mesh.workload(name).listen({ port }, greetAndEcho));
    }
  });
  after(async () => {
    for (const server of servers) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  async function keepalive(policy: KeepalivePolicy): Promise<void> {
    const rule = { namespace: 'shop', name: 'r', host: '*.shop.svc.cluster.local', ports: {} };
    const destinationRules = [{ ...rule, policy: { connections: { keepalive: policy } } }];
    await mesh.apply(allowAll({ revision: ++revision, destinationRules }));
  }

  async function opened(name: string): Promise<Socket> {
    const socket = await mesh.workload('client').connect({ ip: mesh.lab.vip(name).ipv4, port: 80 });
    await once(socket, 'data');
    return socket;
  }

  const drop = async (action: '-I' | '-D', name: string, at: number): Promise<void> => {
    const rule = ['INPUT', '-p', 'tcp', '--dport', String(at), '-j', 'DROP'];
    await mesh.workload(name).check(['iptables', '-w', '5', action, ...rule]);
  };

  /** How the kernel asks the endpoint next: `10sec` of `timer:(keepalive,10sec,0)`; null: it does not. */
  async function nextProbe(): Promise<string | null> {
    const text = await mesh.workload('client').check(['ss', '-Htno', 'state', 'established', `dport = :${port}`]);
    return /timer:\(keepalive,([^,]+),/.exec(text)?.[1] ?? null;
  }

  test('is that of the socket to an endpoint outside the mesh', async () => {
    await keepalive({ idleSeconds: 600, everySeconds: 60, probes: 3 });
    const socket = await opened('plain');
    const next = await waitUntil('its timer', async () => (await nextProbe()) ?? undefined);
    assert.match(next, /^(?:10min|9min\d+sec)$/);
    await exchange(socket, 'bye');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'OK');
    await mesh.apply(allowAll({ revision: ++revision }));
    const another = await opened('plain');
    assert.equal(await nextProbe(), null);
    await exchange(another, 'bye');
    await mesh.closed('node1', outbound);
  });

  for (const [name, path, at] of [
    ['plain', 'plaintext', port],
    ['peer', 'hbone', capturePorts.inboundTunnel],
  ] as const) {
    test(`ends a connection to a host that is gone, and none to one that answers: ${path}`, async () => {
      await keepalive(brisk);
      const socket = await opened(name);
      await silenceOf(longerMs);
      socket.write('still here');
      assert.equal(String((await once(socket, 'data'))[0]), 'still here');
      await drop('-I', name, at);
      assert.equal(await errorOf(socket, noticedWithinMs), 'ECONNRESET');
      const record = await mesh.closed('node1', outbound);
      assert.deepEqual(
        [record.path, record.reason, record.detail],
        [path, 'KEEPALIVE_TIMEOUT', 'the destination does not answer: tcpKeepalive'],
      );
      await drop('-D', name, at);
    });
  }

  test('changes nothing between workloads of one host, whose kernel always answers', async () => {
    await keepalive(brisk);
    const socket = await opened('near');
    await silenceOf(longerMs);
    assert.match(await exchange(socket, 'still'), /still$/);
    assert.equal((await mesh.closed('node1', outbound)).reason, 'OK');
  });
});
