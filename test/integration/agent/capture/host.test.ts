import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { CaptureLog } from '../../../../agent/capture/firewall/capture-log.js';
import type { CaptureRepair } from '../../../../agent/capture/firewall/captured-netns.js';
import { CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import { HostCapture } from '../../../../agent/capture/host-capture.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { detectBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { WorkloadCapture } from '../../../../agent/capture/workload-capture.js';
import { probeSource } from '../../../../agent/capture/firewall/workload-rules.js';
import type { IpAddress } from '../../../../shared/address.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';

const silent: CaptureLog = { info: () => {}, warn: () => {}, error: () => {} };
const families = [4, 6] as const;

let network: CaptureNetwork;
let found: string;
const repairs: CaptureRepair[] = [];
let host: HostCapture;
let capture: WorkloadCapture;

before(async () => {
  network = new CaptureNetwork();
  found = await network.fingerprint(network.router);
  const runner = new CommandRunner({ maxParallel: 2 });
  const backend = await detectBackend(runner);
  host = new HostCapture({
    idleCompareIntervalMs: 60_000,
    runner,
    backend,
    log: silent,
    onRepair: (repair) => repairs.push(repair),
    netnsFd: network.router.fd,
  });
  capture = new WorkloadCapture({ log: silent });
  await network.serveCapturePorts(network.a);
  await network.serve({ at: network.a, port: 8200, label: 'app' });
  const w = { name: workloadNamed('t/a'), netnsPath: network.a.path, addresses: [], exclusions: noExclusions };
  await capture.apply(w);
  await host.setAddresses([network.a.ip[4], network.a.ip[6]]);
});
after(async () => {
  await capture.releaseAll();
  await capture.close();
  await network[Symbol.asyncDispose]();
});

test('a connection that a socket of the host opens reaches the workload unruled', async () => {
  assert.equal(host.problem, null);
  for (const family of families) {
    const { line } = await network.dial({ from: network.router, ip: network.a.ip[family], port: 8200 });
    assert.equal(line, `app direct ${probeSource[family]}`);
  }
});

test("forwarded traffic is ruled, also when a NAT gives it the host's address", async () => {
  for (const family of families) {
    const ip = network.a.ip[family];
    const plain = await network.dial({ from: network.x, ip, port: 8200 });
    assert.equal(plain.line, `inbound ${family === 4 ? `${ip}:8200` : `[${ip}]:8200`} ${network.x.ip[family]}`);
  }
  for (const tool of ['iptables', 'ip6tables']) {
    await network.sh(network.router, `${tool} -t nat -A POSTROUTING -o to-a -p tcp -j MASQUERADE`);
  }
  for (const family of families) {
    const ip = network.a.ip[family];
    const masked = await network.dial({ from: network.x, ip, port: 8200 });
    assert.equal(masked.line, `inbound ${family === 4 ? `${ip}:8200` : `[${ip}]:8200`} ${network.router.ip[family]}`);
    const probe = await network.dial({ from: network.router, ip, port: 8200 });
    assert.equal(probe.line, `app direct ${probeSource[family]}`, 'the probe goes before the NAT of others');
  }
  for (const tool of ['iptables', 'ip6tables']) {
    await network.sh(network.router, `${tool} -t nat -D POSTROUTING -o to-a -p tcp -j MASQUERADE`);
  }
});

test('other connections cannot pass as a probe', async () => {
  for (const family of families) {
    const source = probeSource[family] as IpAddress;
    await network.sh(network.x, `ip addr add ${source} dev eth0 ${family === 6 ? 'nodad' : ''}`);
    const forged = { from: network.x, ip: network.a.ip[family], port: 8200, source };
    assert.equal((await network.dial(forged)).line, 'TIMEOUT');
    const dropped = await network.sh(
      network.router,
      `${family === 4 ? 'iptables' : 'ip6tables'} -t mangle -vnxL CULVERT_PREROUTING | grep DROP`,
    );
    assert.ok(Number(dropped.trim().split(/\s+/)[0]) > 0, `the host dropped it: ${dropped}`);
  }
});

test('flushed rules of the host are repaired, and removal leaves the host as it was', async () => {
  await network.sh(network.router, 'iptables -t nat -F; ip6tables -t mangle -X 2>/dev/null || true');
  await host.check({ isForced: false });
  assert.equal(repairs.length, 1);
  assert.equal(repairs[0]?.name, 'host');
  const { line } = await network.dial({ from: network.router, ip: network.a.ip[4], port: 8200 });
  assert.equal(line, `app direct ${probeSource[4]}`);
  await host.setAddresses([network.b.ip[4]]);
  assert.doesNotMatch(await network.sh(network.router, 'ip6tables-save'), /CULVERT/, 'no IPv6 workload is left');
  await host.remove();
  const left = await network.fingerprint(network.router);
  assert.doesNotMatch(left, /CULVERT|culvert/);
  const withoutNft = (text: string): string => text.slice(0, text.indexOf('table ip'));
  const expected = found.includes('table ip') ? withoutNft(found) : found;
  assert.equal(left, expected);
});
