import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { CaptureLog } from '../../../../agent/capture/firewall/capture-log.js';
import type { CapturedNetns, CaptureRepair } from '../../../../agent/capture/firewall/captured-netns.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { WorkloadCapture } from '../../../../agent/capture/workload-capture.js';
import { ownTrafficMark } from '../../../../agent/ports.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { CaptureNetwork, type NetworkPlace } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';

const silent: CaptureLog = { info: () => {}, warn: () => {}, error: () => {} };
const families = [4, 6] as const;
const target = (ip: string, port: number): string => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

/** The host's addresses stay out of it, because the host of this process is the machine itself. */
function workload(place: NetworkPlace, exclusions: Partial<CapturedNetns['exclusions']> = {}): CapturedNetns {
  return {
    name: workloadNamed(`t/${place.netns}`),
    netnsPath: place.path,
    addresses: [],
    exclusions: { ...noExclusions, ...exclusions },
  };
}

/** A capture of namespace `a` with listeners there, taken out again at the end. */
async function captureA(exclusions: Partial<CapturedNetns['exclusions']> = {}, onRepair?: (r: CaptureRepair) => void) {
  const capture = new WorkloadCapture({ log: silent, ...(onRepair === undefined ? {} : { onRepair }) });
  const servers = await network.serveCapturePorts(network.a);
  await capture.apply(workload(network.a, exclusions));
  return {
    capture,
    [Symbol.asyncDispose]: async () => {
      network.hangUp();
      await capture.releaseAll();
      await capture.close();
      for (const server of servers) server.close();
    },
  };
}

test('outbound TCP arrives on 15001 with the original destination, and marked TCP goes out', async () => {
  await using guard = await captureA();
  await network.serve({ at: network.b, port: 8001, label: 'b' });
  for (const family of families) {
    const ip = network.b.ip[family];
    const captured = await network.dial({ from: network.a, ip, port: 8001 });
    assert.match(captured.line, new RegExp(`^outbound ${target(ip, 8001).replaceAll(/[[\].]/g, '\\$&')} `));
    const own = await network.dial({ from: network.a, ip, port: 8001, mark: ownTrafficMark });
    assert.equal(own.line, `b direct ${network.a.ip[family]}`);
  }
  assert.equal(guard.capture.status()[0]?.problem, null);
  assert.equal(guard.capture.status()[0]?.state, 'captured');
});

test('inbound TCP arrives on 15006 with the original destination, 15008 and loopback are left alone', async () => {
  await using _guard = await captureA();
  await network.serve({ at: network.a, port: 8002, label: 'app' });
  for (const family of families) {
    const ip = network.a.ip[family];
    const inbound = await network.dial({ from: network.x, ip, port: 8002 });
    assert.equal(inbound.line, `inbound ${target(ip, 8002)} ${network.x.ip[family]}`);
    const tunnel = await network.dial({ from: network.x, ip, port: 15_008 });
    assert.equal(tunnel.line, `tunnel direct ${network.x.ip[family]}`);
    const loopback = await network.dial({ from: network.a, ip: family === 4 ? '127.0.0.1' : '::1', port: 8002 });
    assert.match(loopback.line, /^app direct /);
    const itself = await network.dial({ from: network.a, ip, port: 8002 });
    assert.match(itself.line, /^app direct /);
    const toOwnPort = await network.dial({ from: network.x, ip, port: 15_001 });
    assert.equal(toOwnPort.line, `inbound ${target(ip, 15_001)} ${network.x.ip[family]}`);
  }
});

test('connections of a workload that is closed, and to it, wait until it is captured', async () => {
  const capture = network.capture({ log: silent });
  await network.serveCapturePorts(network.a);
  await network.serve({ at: network.a, port: 8012, label: 'app' });
  await capture.apply({ ...workload(network.a), isClosed: true });
  assert.match(capture.status()[0]?.problem ?? '', /wait until it can be served/);
  const dropped = async (): Promise<number> => {
    const rules = await network.sh(network.a, 'iptables-save -c -t mangle; ip6tables-save -c -t mangle');
    return [...rules.matchAll(/^\[(\d+):.*-j DROP/gm)].reduce((sum, [, packets]) => sum + Number(packets), 0);
  };
  const dial = (from: NetworkPlace, ip: string, port: number) =>
    network.dial({ from, ip, port, withinMs: patientMs(30_000) });
  const dials = families.flatMap((family) => [
    dial(network.a, network.x.ip[family], 8012),
    dial(network.x, network.a.ip[family], 8012),
    dial(network.x, network.a.ip[family], 15_008),
  ]);
  await waitUntil('each was stopped', async () => ((await dropped()) >= dials.length ? true : undefined));
  const itself = await network.dial({ from: network.a, ip: network.a.ip[4], port: 8012 });
  assert.match(itself.line, /^app direct/);
  await capture.check(workload(network.a).name);
  assert.equal(capture.status()[0]?.state, 'captured', 'its rules are compared, and no test is dialled');
  await capture.apply(workload(network.a));
  const lines = (await Promise.all(dials)).map(({ line }) => line.split(' ')[0]);
  assert.deepEqual(
    lines,
    families.flatMap(() => ['outbound', 'inbound', 'tunnel']),
    'none was refused, none passed',
  );
  assert.equal(capture.status()[0]?.problem, null);
  network.hangUp();
  await capture.releaseAll();
});

test('a closed workload that is released passes everything, and nothing of it stays', async () => {
  const capture = network.capture({ log: silent });
  const before = await network.fingerprint(network.a);
  await network.serve({ at: network.a, port: 8015, label: 'app' });
  for (const isDown of [false, true]) {
    // Capture cannot be loaded while the loopback interface of a new namespace is down.
    if (isDown) await network.sh(network.a, 'ip link set lo down');
    await capture.apply({ ...workload(network.a), isClosed: true });
    if (isDown) await network.sh(network.a, 'ip link set lo up');
    assert.notEqual(await network.fingerprint(network.a), before);
    await capture.release(workload(network.a).name);
    assert.match((await network.dial({ from: network.x, ip: network.a.ip[4], port: 8015 })).line, /^app direct/);
  }
  assert.equal(await network.fingerprint(network.a), before);
});

test('a namespace that goes to another workload is captured throughout, also by one that drained', async () => {
  await using guard = await captureA();
  const { capture } = guard;
  const lineFromX = async (): Promise<string> =>
    (await network.dial({ from: network.x, ip: network.a.ip[4], port: 8013 })).line;
  const [{ netnsInode } = { netnsInode: 0 }] = capture.status();
  const other = { ...workload(network.a), name: workloadNamed('t/other') };
  await capture.letGo(workload(network.a).name, netnsInode + 1);
  assert.equal(capture.status().length, 1, 'another namespace');
  await capture.letGo(workload(network.a).name, netnsInode);
  assert.match(await lineFromX(), /^inbound /, 'its rules are still there');
  await capture.apply(other);
  assert.match(await lineFromX(), /^inbound /);
  const open = await network.dial({ from: network.a, ip: network.x.ip[4], port: 8014 });
  assert.match(open.line, /^outbound/);
  await capture.release(other.name);
  assert.equal(capture.status()[0]?.state, 'draining');
  await capture.letGo(other.name, netnsInode);
  await capture.apply(workload(network.a));
  open.socket.resetAndDestroy();
  assert.equal(await capture.check(other.name), 'gone', 'what drained has no say any more');
  assert.match(await lineFromX(), /^inbound /);
  assert.deepEqual(
    capture.status().map(({ name, state }) => [name, state]),
    [[workload(network.a).name, 'captured']],
  );
});

test('excluded ports and CIDRs go their own way, and changed exclusions take effect', async () => {
  await using guard = await captureA({
    excludeOutboundPorts: [8003],
    excludeInboundPorts: [8004],
    excludeOutboundCidrs: ['198.19.3.0/24', 'fd00:19:3::/64'],
  });
  await network.serve({ at: network.b, port: 8003, label: 'b' });
  await network.serve({ at: network.a, port: 8004, label: 'a' });
  await network.serve({ at: network.x, port: 8005, label: 'x' });
  for (const family of families) {
    assert.match((await network.dial({ from: network.a, ip: network.b.ip[family], port: 8003 })).line, /^b direct/);
    assert.match((await network.dial({ from: network.x, ip: network.a.ip[family], port: 8004 })).line, /^a direct/);
    assert.match((await network.dial({ from: network.a, ip: network.x.ip[family], port: 8005 })).line, /^x direct/);
  }
  await guard.capture.apply(workload(network.a));
  for (const family of families) {
    assert.match((await network.dial({ from: network.a, ip: network.b.ip[family], port: 8003 })).line, /^outbound/);
    assert.match((await network.dial({ from: network.x, ip: network.a.ip[family], port: 8004 })).line, /^inbound/);
  }
});

test('connections that are open before capture begins go on, and those open at its end go on', async () => {
  await network.serve({ at: network.b, port: 8006, label: 'b' });
  const earlier = await network.dial({ from: network.a, ip: network.b.ip[4], port: 8006 });
  assert.match(earlier.line, /^b direct/);
  await using guard = await captureA();
  assert.equal(await network.echo(earlier.socket, 'still here'), 'still here');
  const captured = await network.dial({ from: network.a, ip: network.b.ip[4], port: 8006 });
  assert.match(captured.line, /^outbound/);
  await guard.capture.release(workload(network.a).name);
  assert.equal(guard.capture.status()[0]?.state, 'draining');
  assert.equal(await network.echo(captured.socket, 'drains'), 'drains');
  assert.match((await network.dial({ from: network.a, ip: network.b.ip[4], port: 8006 })).line, /^b direct/);
  assert.equal(await network.echo(earlier.socket, 'and this'), 'and this');
  captured.socket.resetAndDestroy();
  await waitUntil('the capture is drained', async () => {
    assert.notEqual(await guard.capture.check(workload(network.a).name), 'failed');
    return guard.capture.status().length === 0 ? true : undefined;
  });
  assert.doesNotMatch(await network.fingerprint(network.a), /CULVERT|culvert/);
  assert.equal(await network.echo(earlier.socket, 'and that'), 'and that');
});

test('replies to a dial that borrowed the client address come back, and the application sees that address', async () => {
  await using _guard = await captureA();
  await network.serve({ at: network.a, port: 8007, label: 'app' });
  // Debian's default is 0; others ship strict.
  await network.sh(network.a, 'sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.lo.rp_filter=1');
  for (const family of families) {
    const client = network.x.ip[family];
    const dialled = { from: network.a, ip: network.a.ip[family], port: 8007, mark: ownTrafficMark, source: client };
    const { line, socket } = await network.dial(dialled);
    assert.equal(line, `app direct ${client}`);
    assert.equal(await network.echo(socket, 'to and fro'), 'to and fro');
  }
});

test('a borrowed dial may take the very port that the client has open to us', async () => {
  await using _guard = await captureA();
  await network.serve({ at: network.a, port: 8008, label: 'app' });
  for (const family of families) {
    const ip = network.a.ip[family];
    const client = network.x.ip[family];
    const plain = await network.dial({ from: network.x, ip, port: 8008 });
    assert.equal(plain.line, `inbound ${target(ip, 8008)} ${client}`);
    const localPort = plain.socket.localPort ?? 0;
    const own = await network.dial({
      from: network.a,
      ip,
      port: 8008,
      mark: ownTrafficMark,
      source: client,
      localPort,
    });
    assert.equal(own.line, `app direct ${client}`);
    assert.equal(await network.echo(own.socket, 'mine'), 'mine');
    assert.equal(await network.echo(plain.socket, 'yours'), 'yours');
  }
});

test('one source port dialled to many destinations is captured each time with the right destination', async () => {
  await using _guard = await captureA();
  const ports = Array.from({ length: 60 }, (_, index) => 9000 + index);
  const lines = await Promise.all(
    ports.map(
      async (port) => (await network.dial({ from: network.a, ip: network.b.ip[4], port, localPort: 40_123 })).line,
    ),
  );
  assert.deepEqual(
    lines.map((line) => line.split(' ')[1]),
    ports.map((port) => target(network.b.ip[4], port)),
  );
});

test('what a workload that leaves still has open lives on when another one has its namespace and is closed', async () => {
  const capture = network.capture({ log: silent });
  await network.serveCapturePorts(network.a);
  await capture.apply(workload(network.a));
  const open = await network.dial({ from: network.a, ip: network.x.ip[4], port: 8016 });
  assert.match(open.line, /^outbound/);
  await capture.release(workload(network.a).name);
  const [{ netnsInode } = { netnsInode: 0 }] = capture.status();
  await capture.letGo(workload(network.a).name, netnsInode);
  const other = { ...workload(network.a), name: workloadNamed('t/next') };
  await capture.apply({ ...other, isClosed: true });
  assert.equal(await network.echo(open.socket, 'still here'), 'still here');
  await capture.apply(other);
  assert.equal(await network.echo(open.socket, 'and captured'), 'and captured');
  assert.match((await network.dial({ from: network.a, ip: network.x.ip[4], port: 8016 })).line, /^outbound/);
  network.hangUp();
  await capture.releaseAll();
});
