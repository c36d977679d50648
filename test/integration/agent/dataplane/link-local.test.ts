import assert from 'node:assert/strict';
import process from 'node:process';
import { after, before, describe, test } from 'node:test';
import { isLinkLocal, parseIp, type IpAddress } from '../../../../shared/address.js';
import { plainRule, type CompiledRule } from '../../../../shared/policy/snapshot.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { exchange, greetAndEcho, inbound, outbound, ruleOf } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
const permissive = { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'r' } as const;

/** Connects, sends a line, and writes what came back, or the error's code. Runs in a namespace, where the zone is known. */
const client = `
  const [host, port, localAddress] = process.argv.slice(1);
  const socket = require('node:net').connect({ host, port, ...(localAddress ? { localAddress } : {}) });
  let text = '';
  socket.on('connect', () => socket.write('GET / HTTP/1.0\\r\\n\\r\\n'));
  socket.on('data', (chunk) => (text += chunk));
  socket.on('error', (error) => console.log(error.code));
  socket.on('end', () => console.log('END ' + text));
  socket.setTimeout(10000, () => { console.log('TIMEOUT'); socket.destroy(); });
`;

describe('a connection over link-local addresses', { timeout: 120_000 }, () => {
  let mesh: DataplaneMesh;
  let server: LabServer;
  let address: IpAddress;
  let zone: string;
  let lostWorkers = 0;
  let notTls = 0;

  before(async () => {
    mesh = await DataplaneMesh.start({
      hosts: [
        {
          name: 'node1',
          workloads: [{ name: 'web', namespace: 'shop', serviceAccount: 'web', labels: { app: 'web' } }],
        },
        {
          name: 'node2',
          workloads: [{ name: 'db', namespace: 'shop', serviceAccount: 'db', labels: { app: 'db' } }],
        },
      ],
    });
    mesh.pool('node2').on('workerLost', () => (lostWorkers += 1));
    mesh.pool('node2').on('report', ({ gauges }) => (notTls = gauges.refusedHandshakes['not_tls'] ?? 0));
    const db = mesh.workload('db');
    server = await db.listen({ port }, greetAndEcho);
    const shown = await db.check(['ip', '-6', '-o', 'addr', 'show', 'dev', 'eth0', 'scope', 'link']);
    address = parseIp(/inet6 (\S+)\//.exec(shown)?.[1] ?? '') as IpAddress;
    const route = await mesh.lab.host('node2').check(['ip', '-6', 'route', 'get', db.ipv6]);
    zone = / dev (\S+)/.exec(route)?.[1] ?? '';
    assert.ok(isLinkLocal(address) && zone !== '');
  });

  after(async () => {
    await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  /** What a neighbour on the link of `db` gets. */
  async function dial(host: string, dialledPort = port, source = ''): Promise<string> {
    const argv = [process.execPath, '-e', client, host, String(dialledPort), source];
    return (await mesh.lab.host('node2').check(argv)).trim();
  }

  test('is refused where it is no registered address, whatever the rules say', async () => {
    assert.equal(await dial(`${address}%${zone}`), 'ECONNRESET');
    const record = await mesh.closed('node2', inbound);
    assert.deepEqual([record.reason, record.requested], ['NOT_OWN_ADDRESS', { ip: address, port }]);
    assert.equal(record.detail, `${address} is no registered address of shop/db`);
  });

  test('is ruled by its address without the zone', async () => {
    const { ipv6 } = mesh.workload('db');
    assert.equal(await dial(ipv6, port, `fe80::1%${zone}`), 'ECONNRESET');
    const strict = await mesh.closed('node2', inbound);
    assert.deepEqual([strict.reason, ruleOf(strict)], ['SOURCE_UNKNOWN', 'Mesh/default']);
    assert.ok(strict.source.address !== null && isLinkLocal(strict.source.address.ip));
    assert.equal(parseIp(strict.source.address.ip), strict.source.address.ip, 'no zone');
    assert.deepEqual(strict.requested, { ip: ipv6, port });
    assert.equal(strict.destination.workload, 'shop/db');

    const rule: CompiledRule = {
      ...plainRule,
      name: 'no-link-local',
      tier: 'team',
      priority: 1,
      action: 'deny',
      mode: 'enforce',
      from: [{ cidrs: ['fe80::/10'] }],
      to: [],
      ports: [],
    };
    await mesh.apply(allowAll({ revision: 2, mesh: permissive, rules: [rule] }));
    assert.equal(await dial(ipv6, port, `fe80::1%${zone}`), 'ECONNRESET');
    const denied = await mesh.closed('node2', inbound);
    assert.deepEqual([denied.reason, ruleOf(denied)], ['POLICY_DENY', 'SegmentationRule/no-link-local']);
  });

  test('is refused where rules allow it: the application would take the client for itself', async () => {
    await mesh.apply(allowAll({ revision: 3, mesh: permissive }));
    assert.equal(await dial(mesh.workload('db').ipv6, port, `fe80::1%${zone}`), 'ECONNRESET');
    const record = await mesh.closed('node2', inbound);
    assert.deepEqual([record.source.address?.ip, record.reason], ['fe80::1', 'HOST_UNREACHABLE']);
    assert.match(record.detail, /the link-local address fe80::1 cannot be borrowed/);
  });

  test('to the tunnel port is judged like any other handshake', async () => {
    await dial(`${address}%${zone}`, 15_008);
    await waitUntil('the refused handshake', () => (notTls > 0 ? true : undefined), 15_000);
  });

  test('costs other connections nothing', async () => {
    const db = mesh.workload('db');
    const socket = await mesh.workload('web').connect({ ip: db.ipv6, port });
    assert.match(await exchange(socket, 'x'), /x$/);
    await mesh.closed('node1', outbound);
    assert.equal((await mesh.closed('node2', inbound)).path, 'hbone');
    assert.equal(lostWorkers, 0);
  });
});
