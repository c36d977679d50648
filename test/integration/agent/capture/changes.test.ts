import assert from 'node:assert/strict';
import type { Server } from 'node:net';
import { after, before, test } from 'node:test';
import type { CaptureLog } from '../../../../agent/capture/firewall/capture-log.js';
import type { CaptureSettings } from '../../../../agent/capture/capture-settings.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { RuleChanges } from '../../../../agent/capture/firewall/rule-changes.js';
import { WorkloadCapture } from '../../../../agent/capture/workload-capture.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';
import { patientMs } from '../../../lab/patience.js';

const silent: CaptureLog = { info: () => {}, warn: () => {}, error: () => {} };
const nft = { kind: 'nft', iptables: { 4: 'iptables', 6: 'ip6tables' } } as const;
const hourMs = 3_600_000;
/** Nothing is found by looking for it. */
const onlyTold: Partial<CaptureSettings> = {
  selfTestIntervalMs: hourMs,
  compareIntervalMs: hourMs,
  idleCompareIntervalMs: hourMs,
};

let network: CaptureNetwork;
let capture: WorkloadCapture;
let servers: Server[];
before(async () => {
  network = new CaptureNetwork();
  servers = await network.serveCapturePorts(network.a);
  capture = new WorkloadCapture({ log: silent, settings: onlyTold });
  const name = workloadNamed('t/a');
  await capture.apply({ name, netnsPath: network.a.path, addresses: [], exclusions: noExclusions });
});
after(async () => {
  await capture.releaseAll();
  await capture.close();
  for (const server of servers) server.close();
  await network[Symbol.asyncDispose]();
});

function repairs(): number {
  return capture.status()[0]?.repairs ?? 0;
}

const damages: readonly [what: string, script: string, undo?: string][] = [
  ['the nat table of IPv4 is flushed', 'iptables -t nat -F'],
  ['the nat table of IPv6 is flushed', 'ip6tables -t nat -F'],
  ['the mangle tables are flushed', 'iptables -t mangle -F; ip6tables -t mangle -F'],
  ['the raw table is flushed', 'iptables -t raw -F'],
  ['one chain is emptied', 'iptables -t nat -F CULVERT_OUTPUT'],
  ['one rule is deleted', 'ip6tables -t nat -D CULVERT_PREROUTING 3'],
  ['everything is flushed with nft', 'nft flush ruleset'],
  [
    'rules that accept are put before ours',
    'iptables -t nat -I OUTPUT -p tcp -j ACCEPT',
    'iptables -t nat -D OUTPUT -p tcp -j ACCEPT',
  ],
  ['the ip rule of IPv4 is deleted', 'ip rule del pref 32764'],
  ['the ip rule of IPv6 is deleted', 'ip -6 rule del pref 32764'],
  ['the local route of IPv4 is deleted', 'ip route flush table 111'],
  ['the local route of IPv6 is deleted', 'ip -6 route flush table 111'],
  ['loopback goes down and comes back', 'ip link set lo down; ip link set lo up'],
  [
    'IPv6 is switched off and on again',
    'sysctl -qw net.ipv6.conf.all.disable_ipv6=1; sysctl -qw net.ipv6.conf.all.disable_ipv6=0',
  ],
];

for (const [what, script, undo] of damages) {
  test(`it is repaired without being looked for when ${what}`, { timeout: patientMs(60_000) }, async () => {
    const [repaired, intact] = [repairs(), await network.fingerprint(network.a)];
    await network.sh(network.a, script);
    await waitUntil(`the repair after ${what}`, () => (repairs() > repaired ? true : undefined), 30_000);
    if (undo !== undefined) await network.sh(network.a, undo);
    const ours = (text: string): string[] => text.split('\n').filter((line) => /culvert:|table 111|32764/.test(line));
    const now = async (): Promise<string> => ours(await network.fingerprint(network.a)).join('\n');
    // What is loaded only where others have no rules comes back when they have none any more.
    if (undo !== undefined)
      await waitUntil('the same rules', async () => (await now()) === ours(intact).join('\n') || undefined);
    assert.equal(await now(), ours(intact).join('\n'));
  });
}

test('changes elsewhere in a namespace are not reported, and no change is reported twice', async () => {
  const place = network.b;
  const changes = RuleChanges.open({ netnsFd: place.fd, hasRoutes: true, backend: nft, place: 'b', log: silent });
  assert.ok(changes !== null);
  try {
    assert.equal(changes.take(), false);
    await network.sh(place, 'ip route add 203.0.113.0/24 via 198.19.2.1; ip addr add 198.19.2.77/32 dev eth0');
    await network.sh(place, 'ip link set eth0 mtu 1400; ip -6 route add fd00:77::/64 via fd00:19:2::1');
    assert.equal(changes.take(), false);
    await network.sh(place, 'ip rule add pref 9 to 203.0.113.0/24 lookup 9');
    assert.equal(changes.take(), true);
    assert.equal(changes.take(), false);
    await network.sh(place, 'iptables -t filter -A INPUT -s 203.0.113.7 -j DROP');
    assert.equal(changes.take(), true);
    assert.equal(changes.take(), false);
    await network.sh(place, 'iptables-save; ip6tables-save; nft list ruleset; ip rule; ip route show table all');
    assert.equal(changes.take(), false, 'to look at rules is no change');
  } finally {
    changes.close();
  }
  assert.equal(changes.take(), false);
});

test('more changes than the kernel can keep for us count as one', async () => {
  const place = network.x;
  const changes = RuleChanges.open({ netnsFd: place.fd, hasRoutes: false, backend: nft, place: 'x', log: silent });
  try {
    const rules = `seq 4000 | sed 's/.*/add rule ip flood c ip saddr 203.0.113.7 drop/'`;
    await network.sh(place, `(echo add table ip flood; echo add chain ip flood c; ${rules}) | nft -f -`);
    assert.equal(changes?.take(), true);
    assert.equal(changes?.take(), false);
    await network.sh(place, 'nft delete table ip flood');
    assert.equal(changes?.take(), true);
  } finally {
    changes?.close();
  }
});
