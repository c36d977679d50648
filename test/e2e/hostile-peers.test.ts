import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import type tls from 'node:tls';
import type { TunnelCertificates } from '../../agent/dataplane/tunnel/tunnel.js';
import type { NodeName } from '../../shared/routing/names.js';
import type { SpiffeId } from '../../shared/identity.js';
import type { CertificateAuthority } from '../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../shared/pki/certificate-request.js';
import { issueNodeCertificate } from '../../controller/ca/x509/mesh-certificates.js';
import { TestCa } from '../support/tunnel/tunnel-certificates.js';
import { encodeFrame, encodeHeaders, frameType, RawPeer } from '../support/tunnel/tunnel-raw-peer.js';
import type { LabNode } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { attempt, serveSeenAddress } from '../support/mesh/attempt.js';
import { segmentationRule } from '../support/mesh/rule-world.js';
import { issuerOf, stolen } from '../support/mesh/stolen-identity.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { machineFactor } from '../support/machine-factor.js';

const port = 8080;
const tunnelPort = 15_008;
const refusedWithinMs = 10_000;
const mebibyte = 1024 * 1024;
const clientIdentity = 'spiffe://culvert.local/ns/shop/sa/client' as SpiffeId;

let mesh: Mesh;
let issuer: CertificateAuthority;

before(async () => {
  // The client may dial port 15008 by itself: as a program that got hold of the keys of its own workload would.
  const [first, ...others] = twoHosts.hosts;
  const workloads = (first?.workloads ?? []).map((spec) =>
    spec.name === 'client' ? { ...spec, capture: { excludeOutboundPorts: [tunnelPort] } } : spec,
  );
  mesh = await startMesh({ topology: { ...twoHosts, hosts: [{ name: 'node1', workloads }, ...others] } });
  await serveSeenAddress(mesh.lab.workload('server'), port);
  await serveSeenAddress(mesh.lab.workload('server'), 9000);
  issuer = await issuerOf(mesh);
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** What a node proves itself with to the controller. */
async function ofNode(node: NodeName): Promise<TunnelCertificates> {
  const { csrPem, privateKeyPem } = await createCsr({ identity: clientIdentity });
  const lifetime = { ttlMs: 3_600_000, now: Date.now(), backdateMs: 0 };
  const issued = await issueNodeCertificate({ issuer, csrPem, trustDomain: 'culvert.local', node, ...lifetime });
  const { chainPem, notAfterMs } = issued;
  const certificate = { identity: clientIdentity, chainPem, keyPem: privateKeyPem, notAfterMs };
  return { rootsPem: issuer.rootPem, certificates: [certificate] };
}

function refusals(kind: string): Promise<number> {
  return mesh.agent('node2').metric('culvert_refused_handshakes_total', { kind });
}

/** Does something hostile, and waits until it is counted as this, at most ten seconds later. */
async function expectCounted(kind: string, attack: () => Promise<unknown>): Promise<void> {
  const before = await refusals(kind);
  await attack();
  await waitUntil(`a refusal is counted as ${kind}`, async () => ((await refusals(kind)) > before ? true : undefined));
}

function dialTunnelPort(from: LabNode = mesh.lab.host('outside'), family: 'ipv4' | 'ipv6' = 'ipv4'): Promise<Socket> {
  return from.connect({ ip: mesh.lab.workload('server')[family], port: tunnelPort });
}

/** Sends bytes and waits until the agent has closed the connection; it must do so within ten seconds. */
async function sendAndWait(bytes: string | Buffer): Promise<void> {
  const socket = await dialTunnelPort();
  const closed = closeOf(socket);
  socket.write(bytes);
  await closed;
}

async function closeOf(socket: Socket | tls.TLSSocket): Promise<void> {
  if (socket.closed || socket.readableEnded) {
    socket.destroy();
    return;
  }
  await new Promise<void>((resolve, reject) => {
    const longestMs = patientMs(refusedWithinMs);
    const timer = setTimeout(() => reject(new Error(`still open after ${longestMs} ms`)), longestMs);
    const finish = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve();
    };
    socket.once('end', finish);
    socket.once('close', finish);
    socket.resume();
  });
}

async function tlsPeer(
  own: TunnelCertificates | null,
  options: tls.ConnectionOptions = {},
  from: LabNode = mesh.lab.host('outside'),
): Promise<RawPeer> {
  return RawPeer.connect(tunnelPort, own, { socket: await dialTunnelPort(from), ...options });
}

async function turnedAway(own: TunnelCertificates | null, options: tls.ConnectionOptions = {}): Promise<void> {
  const peer = await tlsPeer(own, options).catch(() => undefined);
  if (peer !== undefined) await closeOf(peer.socket);
}

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** What the agent answers to a CONNECT of a peer that speaks HTTP/2 properly, and has this certificate and address. */
async function askFor(from: LabNode, identity: SpiffeId, authority: string): Promise<http2.IncomingHttpHeaders> {
  const { socket } = await tlsPeer(await stolen(issuer, identity), {}, from);
  const session = http2.connect('https://server.invalid', { createConnection: () => socket });
  session.on('error', () => {});
  try {
    const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
    return headers;
  } finally {
    session.destroy();
  }
}

const strangers: readonly [what: string, kind: string, attack: () => Promise<unknown>][] = [
  ['garbage', 'not_tls', () => sendAndWait(randomBytes(65_536).fill(0xff, 0, 8))],
  ['HTTP/1.1 in plain text', 'not_tls', () => sendAndWait('GET / HTTP/1.1\r\nHost: server\r\n\r\n')],
  ['a client without a certificate', 'no_certificate', () => turnedAway(null)],
  ['TLS 1.2', 'tls_failed', async () => turnedAway(await stolen(issuer, clientIdentity), { maxVersion: 'TLSv1.2' })],
  [
    'another protocol than h2',
    'tls_failed',
    async () => turnedAway(await stolen(issuer, clientIdentity), { ALPNProtocols: ['http/1.1'] }),
  ],
  [
    'a certificate of a foreign CA',
    'untrusted_certificate',
    async () => turnedAway(await (await TestCa.create()).issue(clientIdentity)),
  ],
  [
    'an expired certificate',
    'expired_certificate',
    async () => turnedAway(await stolen(issuer, clientIdentity, { startsInMs: -2000, ttlMs: 1000 })),
  ],
  [
    'a certificate of another trust domain, which the own CA must not sign',
    'untrusted_certificate',
    async () => turnedAway(await stolen(issuer, 'spiffe://elsewhere.local/ns/shop/sa/client' as SpiffeId)),
  ],
  ['the certificate of a node', 'wrong_identity', async () => turnedAway(await ofNode('node1' as NodeName))],
  [
    'an HTTP/2 header block without end',
    'protocol_error',
    async () => {
      const peer = await tlsPeer(await stolen(issuer, clientIdentity));
      const closed = closeOf(peer.socket);
      peer.send(preface, encodeFrame(frameType.settings, 0, 0));
      peer.send(encodeFrame(frameType.headers, 0, 1, encodeHeaders({ ':method': 'CONNECT', ':authority': 'x:1' })));
      const block = encodeFrame(frameType.continuation, 0, 1, encodeHeaders({ 'x-endless': 'a'.repeat(100) }));
      for (let sent = 0; sent < 20_000 && !peer.socket.destroyed; sent++) {
        peer.socket.write(block);
        if (sent % 200 === 0) await new Promise(setImmediate);
      }
      await closed;
    },
  ],
];
for (const [what, kind, attack] of strangers) {
  test(`${what} on port 15008 is refused within ten seconds, and counted as ${kind}`, async () => {
    await expectCounted(kind, attack);
  });
}

const refusal = (headers: http2.IncomingHttpHeaders): unknown[] => [headers[':status'], headers['x-culvert-reason']];

test('a certificate of the mesh from an address that is not registered is SOURCE_UNKNOWN', async () => {
  const outside = mesh.lab.host('outside');
  const answer = await askFor(outside, clientIdentity, `${mesh.lab.workload('server').ipv4}:${port}`);
  assert.deepEqual(refusal(answer), [401, 'SOURCE_UNKNOWN']);
  const isIt = (line: { sourceAddress?: string }): boolean =>
    line.sourceAddress?.startsWith(`${outside.ipv4}:`) ?? false;
  const record = await mesh.agent('node2').waitForRecord('the stranger', isIt);
  assert.deepEqual([record.reason, record.sourceIdentity], ['SOURCE_UNKNOWN', clientIdentity]);
  assert.match(record.detail ?? '', /proved spiffe:.* the registry has no workload there/);
});

test('an identity of the mesh from the address of another workload is SOURCE_UNKNOWN', async () => {
  const identity = 'spiffe://culvert.local/ns/shop/sa/neighbour' as SpiffeId;
  const target = `${mesh.lab.workload('server').ipv4}:${port}`;
  assert.deepEqual(refusal(await askFor(mesh.lab.workload('client'), identity, target)), [401, 'SOURCE_UNKNOWN']);
});

test('a peer that asks for another address than it dialled is answered 400 and counted', async () => {
  await expectCounted('bad_request', async () => {
    const answer = await askFor(
      mesh.lab.workload('client'),
      clientIdentity,
      `${mesh.lab.workload('spare').ipv4}:${port}`,
    );
    assert.deepEqual(refusal(answer), [400, 'PROTOCOL_ERROR']);
  });
});

test('a peer that asks for a port of the agent is answered LOOP_DETECTED', async () => {
  for (const own of [15_001, 15_006, 15_008]) {
    const target = `${mesh.lab.workload('server').ipv4}:${own}`;
    const answer = await askFor(mesh.lab.workload('client'), clientIdentity, target);
    assert.deepEqual(refusal(answer), [400, 'LOOP_DETECTED']);
  }
});

test('a peer that leaves out the rules of its own agent meets them at the destination', async () => {
  await mesh.apply(segmentationRule('no-9000', '{ action: deny, to: [{ workload: shop/server }], ports: [9000] }'));
  const [client, target] = [mesh.lab.workload('client'), mesh.lab.workload('server').ipv4];
  assert.deepEqual(refusal(await askFor(client, clientIdentity, `${target}:${port}`)), [200, undefined]);
  const denied = await askFor(client, clientIdentity, `${target}:9000`);
  assert.deepEqual([...refusal(denied), denied['x-culvert-rule']], [401, 'POLICY_DENY', 'SegmentationRule/no-9000']);
  const isIt = (line: { requested?: string }): boolean => line.requested === `${target}:9000`;
  const record = await mesh.agent('node2').waitForRecord('the denial', isIt);
  assert.deepEqual(
    [record.reason, record.rule, record.direction],
    ['POLICY_DENY', 'SegmentationRule/no-9000', 'inbound'],
  );
});

/** Resident memory of the agent of the attacked host, bytes. */
function residentBytes(): number {
  const status = readFileSync(`/proc/${mesh.agent('node2').process.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

test('400 slow and silent peers are gone within ten seconds; memory is bounded, and a good client works meanwhile', async () => {
  const client = mesh.lab.workload('client');
  const server = mesh.lab.workload('server');
  const before = residentBytes();
  const lateBefore = await refusals('handshake_timeout');
  const outside = mesh.lab.host('outside');
  // From two addresses: one may hold 256 handshakes of a thread, and what it dials beyond them is turned away at once.
  const sockets = await Promise.all(
    Array.from({ length: 400 }, (_unused, index) => dialTunnelPort(outside, index < 200 ? 'ipv4' : 'ipv6')),
  );
  const openedAtMs = performance.now();
  // A ClientHello that says it is 512 bytes long, and comes byte by byte.
  const hello = Buffer.from('1603010200010001fc0303', 'hex');
  let at = 0;
  const drip = setInterval(() => {
    const byte = hello.subarray(at % hello.length, (at % hello.length) + 1);
    at++;
    for (const [index, socket] of sockets.entries()) if (index % 2 === 0 && !socket.destroyed) socket.write(byte);
  }, 500);
  try {
    const gone = Promise.all(sockets.map((socket) => closeOf(socket)));
    const over = new AbortController();
    const waits: number[] = [];
    let factor = 1;
    const honest = (async (): Promise<void> => {
      while (!over.signal.aborted) {
        const startedAt = performance.now();
        const made = await attempt(client, server.ipv4, port);
        assert.deepEqual([made.outcome, made.seenAs], ['OK', `server ${client.ipv4}`]);
        waits.push(performance.now() - startedAt);
        // How busy the machine is while it is asked, not after it.
        if (waits.length % 10 === 1) factor = Math.max(factor, await machineFactor());
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    await gone.finally(() => over.abort());
    const refusedMs = performance.now() - openedAtMs;
    await honest;
    const worst = Math.max(...waits);
    const seen = `refused after ${Math.round(refusedMs)} ms, ${waits.length} good clients, the slowest ${Math.round(worst)} ms`;
    const busy = `${seen}, on a machine ${factor.toFixed(1)} times slower than idle`;
    assert.ok(refusedMs < (refusedWithinMs + 500) * factor, busy);
    assert.ok(waits.length > 10 / factor, busy);
    assert.ok(worst < 2000 * factor, busy);
  } finally {
    clearInterval(drip);
  }
  const growth = residentBytes() - before;
  assert.ok(growth < 64 * mebibyte, `the agent grew by ${Math.round(growth / mebibyte)} MiB`);
  await waitUntil('they are counted', async () => {
    const counted = (await refusals('handshake_timeout')) - lateBefore;
    if (counted < 400) throw new Error(`${counted} are counted as late`);
    return true;
  });
});
