import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import type { Server } from 'node:net';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { CaptureLog } from '../../../../agent/capture/firewall/capture-log.js';
import type { CaptureRepair } from '../../../../agent/capture/firewall/captured-netns.js';
import { CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import { HostCapture } from '../../../../agent/capture/host-capture.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { detectBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { parseProbers } from '../../../../agent/capture/firewall/probers.js';
import { WorkloadCapture } from '../../../../agent/capture/workload-capture.js';
import { captureControl } from '../../../../agent/control/workloads/capture-control.js';
import { addressesOnlyThere, missingAddresses } from '../../../../agent/capture/namespace-addresses.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { hostPorts, ownTrafficMark } from '../../../../agent/ports.js';
import { formatHostPort, type IpAddress } from '../../../../shared/address.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';
import { TestCgroup } from '../../../support/agent/cgroups.js';
import { markedDial } from '../../../support/agent/marked-dial.js';
import { workloadNamed } from '../../../support/routing/names.js';

const execute = promisify(execFile);
const silent: CaptureLog = { info: () => {}, warn: () => {}, error: () => {} };
const families = [4, 6] as const;
const port = 8200;

let network: CaptureNetwork;
let found: string;
let capture: WorkloadCapture;
let cgroup: TestCgroup;
let own: TestCgroup;
let listeners: Server[] = [];
const repairs: CaptureRepair[] = [];

before(async () => {
  cgroup = new TestCgroup();
  own = new TestCgroup();
  network = new CaptureNetwork();
  found = await network.fingerprint(network.router);
  capture = new WorkloadCapture({ log: silent });
  await network.serveCapturePorts(network.a);
  await network.serve({ at: network.a, port, label: 'app' });
  await listenForProbes({ isForeign: false });
  const w = { name: workloadNamed('t/a'), netnsPath: network.a.path, addresses: [], exclusions: noExclusions };
  await capture.apply(w);
});
after(async () => {
  await capture.releaseAll();
  await capture.close();
  await network[Symbol.asyncDispose]();
  cgroup[Symbol.dispose]();
  own[Symbol.dispose]();
});

async function listenForProbes({ isForeign }: { readonly isForeign: boolean }): Promise<void> {
  for (const server of listeners) server.close();
  const where = { at: network.router, port: hostPorts.probes, label: 'probe', isForeign };
  listeners = await Promise.all(['127.0.0.1', '::1'].map((host) => network.serve({ ...where, host })));
}

async function probedBy(...probers: readonly string[]): Promise<HostCapture & AsyncDisposable> {
  const runner = new CommandRunner({ maxParallel: 2 });
  const backend = await detectBackend(runner);
  const host = new HostCapture({
    idleCompareIntervalMs: 60_000,
    runner,
    backend,
    log: silent,
    onRepair: (repair) => repairs.push(repair),
    netnsFd: network.router.fd,
    probers: parseProbers(probers),
    ownCgroup: own.path,
  });
  await host.setAddresses([network.a.ip[4], network.a.ip[6]]);
  return Object.assign(host, { [Symbol.asyncDispose]: () => host.remove() });
}

type Run = (program: string, args: readonly string[]) => Promise<string>;
const asUser: Run = async (program, args) => (await execute(program, [...args])).stdout;

/** What a program of the host gets that dials the workload, in both families, as `uid`. */
async function dialled(uid: number, run: Run = asUser): Promise<readonly string[]> {
  const lines: string[] = [];
  for (const family of families) {
    const as = ['setpriv', `--reuid=${uid}`, '--clear-groups', 'perl', '-e', markedDial];
    const args = [`--net=${network.router.path}`, ...as, network.a.ip[family], String(port), '0'];
    lines.push((await run('nsenter', args)).trim());
  }
  return lines;
}

const seen = (label: string): readonly string[] =>
  families.map((family) => {
    const dialledAt = formatHostPort({ ip: network.a.ip[family], port });
    return `${label} ${dialledAt} ${network.router.ip[family]}`;
  });

test('what no setting names is captured, also when the host itself sends it', async () => {
  await using host = await probedBy();
  assert.equal(host.problem, null);
  assert.deepEqual(await dialled(0), seen('inbound'));
  assert.equal(await network.fingerprint(network.router), found, 'no rule of the host is loaded');
});

test('a user that is named reaches the agent, and no other user does', async () => {
  await using host = await probedBy('uid:65534');
  assert.equal(host.problem, null);
  assert.deepEqual(await dialled(65534), seen('probe'));
  assert.deepEqual(await dialled(0), seen('inbound'));
});

test('what the agent itself opens is no probe, also as a user that is named', async () => {
  await using host = await probedBy('uid:0');
  assert.equal(host.problem, null);
  assert.deepEqual(await dialled(0, (program, args) => own.run(program, args)), seen('inbound'));
  const { line } = await network.dial({ from: network.router, ip: network.a.ip[4], port, mark: ownTrafficMark });
  assert.equal(line, seen('inbound')[0]);
  assert.deepEqual(await dialled(0), seen('probe'));
});

test('another program of the host that listens for probes gets none', async () => {
  await using host = await probedBy('uid:65534');
  await listenForProbes({ isForeign: true });
  assert.deepEqual(await dialled(65534), ['refused: Connection refused', 'refused: Connection refused']);
  await listenForProbes({ isForeign: false });
  assert.deepEqual(await dialled(65534), seen('probe'));
  assert.equal(host.problem, null);
});

test('of the addresses that documents give a workload only those lead to the agent that it has, and not the host', () => {
  const { a, b, router } = network;
  const addresses = [a.ip[4], b.ip[4], a.ip[6], '127.0.0.1', '::1', '203.0.113.9'] as IpAddress[];
  const where = { netnsPath: a.path, hostPath: router.path };
  assert.deepEqual(addressesOnlyThere({ ...where, addresses }), [a.ip[4], a.ip[6]]);
});

test('the addresses that a namespace lacks are found, and none where it cannot be read', () => {
  const { a, b } = network;
  const addresses = [a.ip[4], b.ip[4], a.ip[6], b.ip[6], '127.0.0.1', '::1'] as IpAddress[];
  assert.deepEqual(missingAddresses(a.path, addresses), [b.ip[4], b.ip[6]]);
  assert.deepEqual(missingAddresses('/run/netns/culvert-test-not-there', addresses), []);
});

test('while one workload after the other is captured again, probes of all that were captured before go to the agent', async ({
  mock,
}) => {
  const { a, b } = network;
  const addressesOf = ({ ip }: typeof a): readonly IpAddress[] => [ip[4], ip[6]];
  const led: (readonly IpAddress[])[] = [];
  // The host of this capture is the machine itself.
  mock.method(HostCapture.prototype, 'setAddresses', (addresses: readonly IpAddress[]) => {
    led.push(addresses);
    return Promise.resolve();
  });
  await using next = new WorkloadCapture({ log: silent, probers: parseProbers(['uid:65534']) });
  const control = captureControl(next, Promise.resolve());
  const left = [a, b].map((place, index) => ({
    workload: workloadNamed(`t/${index}`),
    netnsPath: place.path,
    netnsInode: netnsInode(place.path) ?? 0,
    addresses: addressesOf(place),
  }));
  const gone = { ...left[1]!, netnsInode: 1, addresses: ['203.0.113.9' as IpAddress, ...addressesOf(b)] };
  control.expect([...left, gone]);
  const workload = { ...left[0]!, name: workloadNamed('t/a'), exclusions: noExclusions };
  await control.apply(workload);
  assert.deepEqual(led.pop(), [...addressesOf(a), ...addressesOf(b)].toSorted());
  await control.removeLeftover(left[1]!);
  assert.deepEqual(led.pop(), addressesOf(a).toSorted(), 'those of a workload that left the mesh go to it at once');
  await control.apply(workload);
  assert.deepEqual(led.pop(), addressesOf(a).toSorted());
});

test('a cgroup that is named reaches the agent, also after it went and came again', async () => {
  await using host = await probedBy(`cgroup:${cgroup.path}`, 'cgroup:/culvert-test-that-is-not-there');
  assert.equal(host.problem, null, 'one that is not there is waited for');
  const inside: Run = (program, args) => cgroup.run(program, args);
  assert.deepEqual(await dialled(0, inside), seen('probe'));
  assert.deepEqual(await dialled(0), seen('inbound'));
  cgroup[Symbol.dispose]();
  cgroup = new TestCgroup(cgroup.path);
  assert.deepEqual(await dialled(0, inside), seen('inbound'), 'the rule means the one that is gone');
  await host.check({ isForced: false });
  assert.deepEqual(await dialled(0, inside), seen('probe'));
});

test('source ports that are named reach the agent, and others do not', async () => {
  await using _host = await probedBy('port:21000-21010');
  for (const [localPort, label] of [
    [21_005, 'probe'],
    [21_011, 'inbound'],
  ] as const) {
    const { line } = await network.dial({ from: network.router, ip: network.a.ip[4], port, localPort });
    assert.equal(line, seen(label)[0]);
  }
});

test('what comes over a link is no probe, whatever address it has', async () => {
  await using _host = await probedBy('uid:0', 'port:1-65535');
  for (const family of families) {
    const plain = await network.dial({ from: network.x, ip: network.a.ip[family], port });
    assert.match(plain.line, /^inbound /);
  }
  for (const tool of ['iptables', 'ip6tables']) {
    await network.sh(network.router, `${tool} -t nat -A POSTROUTING -o to-a -p tcp -j MASQUERADE`);
  }
  for (const family of families) {
    const masked = await network.dial({ from: network.x, ip: network.a.ip[family], port });
    assert.equal(masked.line, seen('inbound')[family === 4 ? 0 : 1], 'with the address of the host');
  }
  for (const tool of ['iptables', 'ip6tables']) {
    await network.sh(network.router, `${tool} -t nat -D POSTROUTING -o to-a -p tcp -j MASQUERADE`);
  }
  // The agents of versions before believed these addresses.
  for (const [family, source] of [
    [4, '169.254.7.127'],
    [6, 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff'],
  ] as const) {
    const nodad = family === 6 ? 'nodad' : '';
    await network.sh(network.x, `ip addr add ${source} dev eth0 ${nodad}`);
    await network.sh(network.router, `ip -${family} route add ${source} dev to-x`);
    const forged = await network.dial({ from: network.x, ip: network.a.ip[family], port, source: source as IpAddress });
    assert.match(forged.line, /^inbound /);
    await network.sh(network.router, `ip -${family} route del ${source} dev to-x`);
    await network.sh(network.x, `ip addr del ${source} dev eth0`);
  }
});

test('what a version before loaded goes, flushed rules are repaired, and removal leaves the host as it was', async () => {
  // The rules of the test before made iptables make chains, which it keeps.
  await network.sh(network.router, 'nft flush ruleset');
  await network.sh(
    network.router,
    `iptables -t nat -N CULVERT_POSTROUTING; iptables -t nat -A CULVERT_POSTROUTING -p tcp -m comment --comment culvert:host-probe -j RETURN
     iptables -t nat -I POSTROUTING -p tcp -m comment --comment culvert:jump -j CULVERT_POSTROUTING
     iptables -t nat -N CULVERT_MADE_TABLE`,
  );
  await using host = await probedBy('uid:0');
  assert.equal(host.problem, null);
  assert.doesNotMatch(await network.sh(network.router, 'iptables-save'), /POSTROUTING .*CULVERT|CULVERT_POSTROUTING/);
  await network.sh(network.router, 'iptables -t nat -F; ip6tables -t nat -X CULVERT_OUTPUT 2>/dev/null || true');
  await host.check({ isForced: false });
  assert.deepEqual(
    repairs.map(({ name }) => name),
    ['host'],
  );
  assert.deepEqual(await dialled(0), seen('probe'));
  await host.setAddresses([network.b.ip[4]]);
  assert.doesNotMatch(await network.sh(network.router, 'ip6tables-save'), /CULVERT/, 'no IPv6 workload is left');
  await host.remove();
  assert.equal(await network.fingerprint(network.router), found);
});
