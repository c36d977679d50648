import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fstatSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import type { CaptureLog } from '../../../../agent/capture/firewall/capture-log.js';
import type { CapturedNetns, CaptureRepair } from '../../../../agent/capture/firewall/captured-netns.js';
import type { WorkloadCapture } from '../../../../agent/capture/workload-capture.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { removeEverything } from '../../../../agent/capture/remove-everything.js';
import { probeCapture, type SelfTestResult } from '../../../../agent/capture/self-test.js';
import { CulvertError } from '../../../../shared/errors.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { CaptureNetwork, type NetworkPlace } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';
import { patientMs } from '../../../lab/patience.js';

const silent: CaptureLog = { info: () => {}, warn: () => {}, error: () => {} };

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

function workload(place: NetworkPlace, name = `t/${place.netns}`): CapturedNetns {
  return { name: workloadNamed(name), netnsPath: place.path, addresses: [], exclusions: noExclusions };
}

test('applying twice changes nothing, and releasing leaves the namespace byte for byte as it was found', async () => {
  const found = await network.fingerprint(network.a);
  const capture = network.capture({ log: silent });
  await capture.apply(workload(network.a));
  const applied = await network.fingerprint(network.a);
  assert.match(applied, /--comment "?culvert:outbound/);
  await capture.apply(workload(network.a));
  assert.equal(await network.fingerprint(network.a), applied);
  await capture.close();
  await using another = network.capture({ log: silent });
  await another.apply(workload(network.a));
  assert.equal(await network.fingerprint(network.a), applied, 'a restarted agent loads the same');
  await another.release(workload(network.a).name);
  assert.equal(await network.fingerprint(network.a), found);
});

test('what an earlier run left is seen in the namespace itself, in both families', async () => {
  const { a } = network;
  const { path, fd } = a;
  const { ino } = fstatSync(fd);
  await using capture = network.capture({ log: silent });
  assert.equal(await capture.isRuled(path, ino), false);
  const before = network.capture({ log: silent });
  await before.apply({ ...workload(a), isClosed: true });
  assert.equal(await capture.isRuled(path, ino), true, 'closed');
  await before.apply(workload(a));
  await before.close();
  assert.equal(await capture.isRuled(path, ino), true);
  assert.equal(await capture.isRuled(path, ino + 1), false, 'of another namespace');
  assert.equal(await capture.isRuled(`${path}-gone`, ino), false);
  await network.sh(a, 'ip6tables -t nat -D OUTPUT 1');
  assert.equal(await capture.isRuled(path, ino), false, 'IPv6 passes');
  await capture.apply(workload(a));
  await network.sh(a, 'iptables -t nat -F CULVERT_OUTPUT');
  assert.equal(await capture.isRuled(path, ino), false, 'IPv4 passes');
  await capture.apply(workload(a));
  await capture.release(workload(a).name);
});

test('foreign rules, tables and policy routing survive capture and removal', async () => {
  const script = `iptables -t nat -A OUTPUT -d 203.0.113.9 -p tcp -j ACCEPT; iptables -A INPUT -s 203.0.113.7 -j DROP;
    ip6tables -t mangle -N THEIRS; ip rule add pref 100 fwmark 0x7 lookup 7; nft add table inet theirs`;
  const undo = `iptables -t nat -D OUTPUT -d 203.0.113.9 -p tcp -j ACCEPT; iptables -D INPUT -s 203.0.113.7 -j DROP;
    ip6tables -t mangle -X THEIRS; ip rule del pref 100; nft delete table inet theirs; nft flush ruleset`;
  await network.sh(network.a, script);
  const found = await network.fingerprint(network.a);
  const capture = network.capture({ log: silent });
  await capture.apply(workload(network.a));
  await network.sh(network.a, 'iptables -t raw -A PREROUTING -s 203.0.113.1 -j ACCEPT');
  await capture.releaseAll();
  await capture.close();
  assert.match(await network.sh(network.a, 'iptables-save -t raw'), /203\.0\.113\.1/, 'their rule in our table stays');
  await network.sh(network.a, 'iptables -t raw -D PREROUTING -s 203.0.113.1 -j ACCEPT; nft delete table ip raw');
  const left = await network.fingerprint(network.a);
  assert.doesNotMatch(left, /CULVERT|culvert/);
  // Built-in chains of their tables may have been made by our jump; they are empty, and iptables shows them either way.
  const withoutNft = (text: string): string => text.slice(0, text.indexOf('table ip '));
  assert.equal(withoutNft(left), withoutNft(found));
  await network.sh(network.a, undo);
});

test(
  'flushed rules are back within ten seconds, and the repair is reported',
  { timeout: patientMs(30_000) },
  async () => {
    await network.serveCapturePorts(network.a);
    const reported: CaptureRepair[] = [];
    const capture = network.capture({ log: silent, onRepair: (repair) => reported.push(repair) });
    await capture.apply(workload(network.a));
    const intact = await network.fingerprint(network.a);
    const damages: readonly [string, RegExp][] = [
      ['iptables -t nat -F', /IPv4 nat: missing/],
      ['ip6tables -t mangle -F', /IPv6 mangle: missing/],
      ['ip rule del pref 32764', /ip rule .* is missing/],
    ];
    for (const [script, found] of damages) {
      await network.sh(network.a, script);
      const isReported = (): boolean => reported.some((repair) => repair.found.some((clause) => found.test(clause)));
      await waitUntil(`the repair after ${script}`, () => isReported() || undefined);
    }
    // What is damaged during a reload may be put back by it before it is seen.
    await network.sh(network.a, damages.map(([script]) => script).join('; '));
    await waitUntil('all of it is back', async () => (await network.fingerprint(network.a)) === intact || undefined);
    assert.ok(reported.every(({ name }) => name === workload(network.a).name));
    const { line, socket } = await network.dial({ from: network.a, ip: network.b.ip[4], port: 8100 });
    assert.match(line, /^outbound/);
    socket.destroy();
    assert.equal(capture.status()[0]?.repairs, reported.length);
    await capture.releaseAll();
    await capture.close();
  },
);

test('a change that the self-test cannot see is found by the comparison', { timeout: patientMs(30_000) }, async () => {
  await network.serveCapturePorts(network.a);
  // Only the checks below may repair: on a busy machine the agent's own would be first.
  const never = 3_600_000;
  const own = { selfTestIntervalMs: never, pollIntervalMs: never, idleCompareIntervalMs: never };
  const capture = network.capture({ log: silent, settings: { ...own, compareIntervalMs: never } });
  await capture.apply(workload(network.a));
  // The capture repairs by itself what the kernel reports, perhaps before it is asked to check.
  const repairs = async (change: string): Promise<number | undefined> => {
    await network.sh(network.a, change);
    assert.notEqual(await capture.check(workload(network.a).name), 'failed');
    return capture.status()[0]?.repairs;
  };
  assert.equal(await repairs('ip6tables -t nat -D CULVERT_PREROUTING 3'), 1);
  assert.equal(await repairs('iptables -t nat -I CULVERT_OUTPUT 1 -p tcp --dport 99 -j ACCEPT'), 2);
  assert.equal(await repairs('nft flush ruleset'), 3);
  assert.equal(await capture.check(workload(network.a).name), 'ok');
  await capture.releaseAll();
  await capture.close();
});

test('the self-test tells captured, refused, escaped, unreachable and excluded apart', async () => {
  const found = async (place: NetworkPlace, exclusions = noExclusions): Promise<SelfTestResult[]> =>
    await Promise.all(
      ([4, 6] as const).map((family) => probeCapture({ netnsFd: place.fd, family, exclusions, timeoutMs: 1000 })),
    );
  const servers = await network.serveCapturePorts(network.a);
  assert.deepEqual(await found(network.a), ['escaped', 'escaped']);
  const capture = network.capture({ log: silent });
  await capture.apply(workload(network.a));
  assert.deepEqual(await found(network.a), ['captured', 'captured']);
  const excluded = { ...noExclusions, excludeOutboundCidrs: ['192.0.2.0/24'] };
  assert.deepEqual(await found(network.a, excluded), ['excluded', 'captured']);
  for (const server of servers) server.close();
  assert.deepEqual(await found(network.a), ['refused', 'refused']);
  await capture.releaseAll();
  await capture.close();
  await network.sh(network.x, 'ip route del default; ip -6 route del default');
  assert.deepEqual(await found(network.x), ['no-route', 'no-route']);
  await network.sh(network.x, 'ip route add default via 198.19.3.1; ip -6 route add default via fd00:19:3::1');
});

test('without a listener the capture refuses and the status says so', async () => {
  const capture = network.capture({ log: silent });
  await capture.apply(workload(network.a));
  assert.equal((await network.dial({ from: network.a, ip: network.b.ip[4], port: 8101 })).line, 'ECONNREFUSED');
  const status = capture.status()[0];
  assert.equal(status?.state, 'failed');
  assert.match(status?.problem ?? '', /does not listen on port 15001/);
  await capture.releaseAll();
  await capture.close();
});

test('a namespace with IPv6 switched off is captured for IPv4, and for IPv6 when it comes back', async () => {
  await network.serveCapturePorts(network.b);
  await network.sh(network.b, 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1');
  const found = await network.fingerprint(network.b);
  const capture = network.capture({ log: silent });
  await capture.apply(workload(network.b));
  assert.equal(capture.status()[0]?.ipv6, 'disabled');
  assert.equal(capture.status()[0]?.problem, null);
  await network.sh(network.b, 'sysctl -qw net.ipv6.conf.all.disable_ipv6=0');
  assert.notEqual(await capture.check(workload(network.b).name), 'failed');
  assert.equal(capture.status()[0]?.ipv6, 'on');
  assert.equal(capture.status()[0]?.repairs, 1);
  await network.sh(network.b, 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1');
  await capture.releaseAll();
  await capture.close();
  assert.equal(await network.fingerprint(network.b), found);
});

test('namespaces that must not be captured are refused with a reason', async () => {
  await using capture = network.capture({ log: silent });
  const refused = async (w: CapturedNetns, code: string): Promise<void> => {
    await assert.rejects(capture.apply(w), (error) => error instanceof CulvertError && error.code === code);
  };
  await refused({ ...workload(network.a), netnsPath: '/proc/self/ns/net' }, 'CAPTURE_OWN_NETNS');
  await refused({ ...workload(network.a), netnsPath: '/run/netns/no-such-namespace' }, 'ENOENT');
  await refused({ ...workload(network.a), netnsPath: '/etc/hostname' }, 'EINVAL');
  const exclusions = { ...noExclusions, excludeOutboundCidrs: ['10.0.0.1/8'] };
  await refused({ ...workload(network.a), exclusions }, 'CAPTURE_EXCLUSION');
  assert.deepEqual(capture.status(), []);
  await capture.apply(workload(network.a));
  await refused(workload(network.a, 't/other'), 'CAPTURE_NETNS_SHARED');
  await capture.releaseAll();
});

test('with loopback down the redirects are loaded all the same, and the error says what to do', async () => {
  const found = await network.fingerprint(network.x);
  await network.sh(network.x, 'ip link set lo down');
  const capture = network.capture({ log: silent });
  await assert.rejects(
    capture.apply(workload(network.x)),
    (error) => error instanceof CulvertError && error.hint?.includes('ip link set lo up') === true,
  );
  assert.match(await network.fingerprint(network.x), /culvert:outbound/);
  assert.equal(capture.status()[0]?.state, 'failed');
  await network.sh(network.x, 'ip link set lo up');
  await waitUntil('the watcher loads what was missing', () =>
    /does not listen/.test(capture.status()[0]?.problem ?? '') ? true : undefined,
  );
  assert.match(await network.fingerprint(network.x), /local default dev lo table 111/);
  await capture.releaseAll();
  await capture.close();
  assert.equal(await network.fingerprint(network.x), found);
});

test('a release that fails is tried again until the namespace is as it was found', async () => {
  const found = await network.fingerprint(network.b);
  await network.serveCapturePorts(network.b);
  await using capture = network.capture({ log: silent, settings: { selfTestIntervalMs: 100 } });
  await capture.apply(workload(network.b));
  const directory = mkdtempSync(path.join(tmpdir(), 'culvert-path-'));
  const before = process.env['PATH'];
  try {
    writeFileSync(path.join(directory, 'iptables-restore'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    process.env['PATH'] = `${directory}:${before}`;
    await assert.rejects(
      capture.release(workload(network.b).name),
      (error) => error instanceof CulvertError && error.code === 'CAPTURE_RULES',
    );
    await waitUntil('the checks have tried it, too', () =>
      /iptables-restore/.test(capture.status()[0]?.problem ?? '') ? true : undefined,
    );
  } finally {
    process.env['PATH'] = before;
    rmSync(directory, { recursive: true });
  }
  await waitUntil('it is released', () => (capture.status().length === 0 ? true : undefined), 30_000);
  assert.equal(await network.fingerprint(network.b), found);
});

test('a namespace that disappears is released without an error', async () => {
  const netns = `${network.a.netns}gone`;
  execFileSync('ip', ['netns', 'add', netns]);
  execFileSync('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
  const capture = network.capture({ log: silent });
  const w = { ...workload(network.a, 't/gone'), netnsPath: `/run/netns/${netns}` };
  await capture.apply(w);
  execFileSync('ip', ['netns', 'del', netns]);
  assert.equal(await capture.check(w.name), 'gone');
  assert.deepEqual(capture.status(), []);
  await capture.release(w.name);
  await capture.close();
});

test('everything can be removed without knowing what was loaded', async () => {
  const found = await network.fingerprint(network.a);
  const capture = network.capture({ log: silent });
  await capture.apply(workload(network.a));
  await capture.close();
  const removed = await removeEverything({ netnsPaths: [network.a.path, '/run/netns/no-such-namespace'] });
  assert.deepEqual(
    removed.map(({ problem }) => problem),
    [null, null, null],
  );
  assert.deepEqual(
    removed.slice(0, 2).map(({ hadRules }) => hadRules),
    [true, false],
  );
  assert.equal(await network.fingerprint(network.a), found);
});

const removals = {
  'the agent is uninstalled': (capture: WorkloadCapture) => capture.releaseAll(),
  'an agent that let go of the workload ends': async (capture: WorkloadCapture) => {
    await capture.release(workload(network.a).name);
    await capture.close();
  },
  'all is removed without an agent': async (capture: WorkloadCapture) => {
    await capture.close();
    await removeEverything({ netnsPaths: [network.a.path] });
  },
};
for (const [why, remove] of Object.entries(removals)) {
  test(`an application that only reads gets the last bytes of its connection when ${why}`, async () => {
    const { a, b } = network;
    const found = await network.fingerprint(a);
    const accepted = new Set<Socket>();
    const [outbound] = await network.serveCapturePorts(a);
    outbound!.on('connection', (socket) => accepted.add(socket));
    const capture = network.capture({ log: silent });
    await capture.apply(workload(a));
    const { line, socket } = await network.dial({ from: a, ip: b.ip[4], port: 8100 });
    assert.match(line, /^outbound/);
    const read = text(socket);
    setTimeout(() => {
      for (const each of accepted) each.end('the last bytes');
    }, 200);
    void read.then(() => socket.destroy());
    await remove(capture);
    assert.equal(await Promise.race([read, delay(patientMs(5000), 'nothing')]), 'the last bytes');
    assert.equal(await network.fingerprint(a), found);
    await capture.close();
  });
}

test('connections that do not end hold up the removal of rules for a second, and new ones for no time', async () => {
  const { a, b } = network;
  const found = await network.fingerprint(a);
  await network.serve({ at: b, port: 8100, label: 'b' });
  await network.serveCapturePorts(a);
  const capture = network.capture({ log: silent });
  await capture.apply(workload(a));
  const held = await network.dial({ from: a, ip: b.ip[4], port: 8100 });
  assert.match(held.line, /^outbound/);
  const sinceMs = performance.now();
  const removed = capture.releaseAll();
  await waitUntil('new ones are not redirected', async () => {
    const { line, socket } = await network.dial({ from: a, ip: b.ip[4], port: 8100 });
    socket.destroy();
    return line.startsWith('b ') || undefined;
  });
  await removed;
  const tookMs = performance.now() - sinceMs;
  assert.ok(tookMs >= 1000 && tookMs < patientMs(5000), `${tookMs} ms`);
  assert.equal(await network.fingerprint(a), found);
  await capture.close();
});

test('apply, check and release of one workload may be called at the same time', async () => {
  const found = await network.fingerprint(network.a);
  const capture = network.capture({ log: silent });
  const w = workload(network.a);
  await Promise.all([
    capture.apply(w),
    capture.apply(w),
    capture.check(w.name),
    capture.apply(w),
    capture.check(w.name),
  ]);
  await Promise.all([capture.check(w.name), capture.release(w.name), capture.check(w.name)]);
  assert.deepEqual(capture.status(), []);
  assert.equal(await network.fingerprint(network.a), found);
  await capture.close();
});
