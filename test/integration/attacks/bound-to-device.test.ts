import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { defaultCaptureSettings } from '../../../agent/capture/capture-settings.js';
import { CommandRunner } from '../../../agent/capture/firewall/command-runner.js';
import type { NetfilterBackend } from '../../../agent/capture/firewall/netfilter-backend.js';
import { NamespaceCapture, noExclusions } from '../../../agent/capture/namespace-capture.js';
import { netnsInode } from '../../../agent/native/netns.js';
import { CaptureNetwork } from '../../support/agent/capture-network.js';
import { workloadNamed } from '../../support/routing/names.js';

/** A program without rights binds its socket to the device of its namespace, and sends to itself on the wire. */
const boundDial = `
  use strict;
  use Socket qw(:all);
  my ($ip, $port) = @ARGV;
  my $is6 = $ip =~ /:/;
  socket(my $socket, $is6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die "socket: $!";
  setsockopt($socket, SOL_SOCKET, 25, "eth0") or die "SO_BINDTODEVICE: $!";
  my $to = $is6 ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $ip)) : pack_sockaddr_in($port, inet_aton($ip));
  $SIG{ALRM} = sub { print "timeout"; exit };
  alarm 2;
  print connect($socket, $to) ? "connected" : "refused: $!";
`;
const backEnds: readonly NetfilterBackend[] = [
  { kind: 'nft', iptables: { 4: 'iptables-nft', 6: 'ip6tables-nft' } },
  { kind: 'legacy', iptables: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' } },
];

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

/** What the next machine has got for this one's own addresses. */
async function onWire(): Promise<number> {
  const counts = await network.sh(
    network.router,
    'iptables-nft -t raw -vnxL PREROUTING; ip6tables-nft -t raw -vnxL PREROUTING',
  );
  return [...counts.matchAll(/^ +(\d+) .*to-a/gm)].reduce((sum, [, packets]) => sum + Number(packets), 0);
}

async function attack(): Promise<string[]> {
  const { a, b } = network;
  const targets = ['127.0.0.1', '127.1.2.3', '::1', b.ip[4], b.ip[6]];
  const tries = targets.map((ip) =>
    network.sh(a, `setpriv --reuid=65534 --clear-groups --bounding-set=-all perl -e '${boundDial}' ${ip} 8500`),
  );
  return await Promise.all(tries);
}

for (const backend of backEnds) {
  test(`nothing for the workload itself gets on the wire, and nothing that was redirected: ${backend.kind}`, async () => {
    const { a, b, router } = network;
    await network.sh(
      router,
      `iptables-nft -t raw -F PREROUTING; ip6tables-nft -t raw -F PREROUTING
       iptables-nft -t raw -A PREROUTING -i to-a -d 127.0.0.0/8; ip6tables-nft -t raw -A PREROUTING -i to-a -d ::1`,
    );
    await network.serveCapturePorts(a);
    for (const family of [4, 6] as const) {
      await network.serve({ at: b, host: b.ip[family], port: 8500, label: 'b' });
    }
    await attack();
    assert.ok((await onWire()) > 0, 'without capture it gets there');
    const capture = new NamespaceCapture({
      runner: new CommandRunner({ maxParallel: 2 }),
      backend,
      settings: defaultCaptureSettings,
      log: { info: () => {}, warn: () => {}, error: () => {} },
      onRepair: () => {},
      workload: { name: workloadNamed('t/web'), netnsPath: a.path, addresses: [], exclusions: noExclusions },
      inode: netnsInode(a.path) ?? 0,
      ownCgroup: null,
    });
    await capture.apply(capture.workload);
    const before = await onWire();
    const answers = await attack();
    assert.equal(await onWire(), before, answers.join());
    assert.ok(
      answers.every((answer) => answer !== 'connected'),
      answers.join(),
    );
    assert.equal(await capture.check({ isFull: true }), 'ok');
    await capture.release({ keepsConnections: false });
  });
}
