import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import type { NetfilterBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { RuleSet } from '../../../../agent/capture/firewall/rule-set.js';
import { planWorkloadChains } from '../../../../agent/capture/firewall/workload-rules.js';
import { noExclusions, workloadHooks } from '../../../../agent/capture/namespace-capture.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { CaptureNetwork, type NetworkPlace } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';

const backEnds: readonly NetfilterBackend[] = [
  { kind: 'nft', iptables: { 4: 'iptables-nft', 6: 'ip6tables-nft' } },
  { kind: 'legacy', iptables: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' } },
];
const runner = new CommandRunner({ maxParallel: 2 });
const plans = { 4: planWorkloadChains(4, noExclusions), 6: planWorkloadChains(6, noExclusions) };
const silent = { info: () => {}, warn: () => {}, error: () => {} };

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

/** Entries of connection tracking in a namespace. */
async function entries(place: NetworkPlace): Promise<number> {
  return Number(await network.sh(place, 'cat /proc/sys/net/netfilter/nf_conntrack_count'));
}

/** Each to another port. */
async function sendDatagrams(from: NetworkPlace, to: string, count: number): Promise<void> {
  const script = `
    const socket = require('dgram').createSocket('udp${to.includes(':') ? 6 : 4}');
    const sendFrom = (at) => {
      if (at === ${count}) return socket.close();
      socket.send('x', 1024 + at, '${to}', () => sendFrom(at + 1));
    };
    sendFrom(0);`;
  await network.sh(from, `exec '${process.execPath}' -e "${script}"`);
}

for (const backend of backEnds) {
  test(`50,000 datagrams of a workload, and 4,000 to it, leave connection tracking as it is, with the ${backend.kind} back end`, async () => {
    // Tables of the legacy back end stay until the namespace goes.
    const [a, b] = [backend.kind === 'legacy' ? network.x : network.a, network.b];
    const rules = new RuleSet({ runner, backend, hasRoutes: true, hooks: workloadHooks });
    await network.serveCapturePorts(a);
    assert.equal(await rules.install(a.fd, plans), 'on');
    for (const family of [4, 6] as const) {
      const { line, socket } = await network.dial({ from: a, ip: b.ip[family], port: 8100 });
      assert.match(line, /^outbound .*8100/, 'captured');
      const count = await entries(a);
      assert.ok(count > 0);
      await sendDatagrams(a, b.ip[family], 25_000);
      assert.ok((await entries(a)) <= count, `${count} entries before, ${await entries(a)} after those that it sent`);
      await sendDatagrams(b, a.ip[family], 2000);
      assert.ok((await entries(a)) <= count, `${count} entries before, ${await entries(a)} after those that it got`);
      assert.equal(await network.echo(socket, 'still here'), 'still here');
    }
    await rules.remove(a.fd);
  });
}

const dnat = '-p udp -d 203.0.113.9 --dport 53 -j DNAT --to-destination';
for (const [what, load, unload] of [
  [
    'NAT of UDP by iptables',
    `iptables -t nat -A OUTPUT ${dnat} 198.19.2.2:5353`,
    `iptables -t nat -D OUTPUT ${dnat} 198.19.2.2:5353`,
  ],
  [
    'a table of nftables',
    `nft -f - <<'E'
table ip theirs {
  chain output {
    type nat hook output priority -90;
    ip daddr 203.0.113.9 udp dport 53 dnat to 198.19.2.2:5353
  }
}
E`,
    'nft delete table ip theirs',
  ],
] as const) {
  test(`${what} works in a captured namespace, also when it comes later`, async () => {
    const { a, b } = network;
    const server = `const socket = require('dgram').createSocket('udp4');
      socket.on('message', (bytes, { address, port }) => socket.send(bytes, port, address, () => socket.close()));
      socket.bind(5353, () => console.log('ready'));`;
    const client = `const socket = require('dgram').createSocket('udp4');
      socket.on('message', (bytes) => { console.log(String(bytes)); socket.close(); });
      setTimeout(() => socket.close(), 20000).unref();
      socket.send('answer', 53, '203.0.113.9');`;
    await network.serveCapturePorts(a);
    await using capture = network.capture({ log: silent });
    await capture.apply({ name: workloadNamed('t/a'), netnsPath: a.path, addresses: [], exclusions: noExclusions });
    const isUntracked = async (): Promise<boolean> =>
      (await network.sh(a, 'iptables-save; ip6tables-save')).includes('--notrack');
    assert.equal(await isUntracked(), true);
    await network.sh(a, load);
    await waitUntil('UDP is tracked', async () => !(await isUntracked()) || undefined);
    const answered = network.sh(b, `exec '${process.execPath}' -e "${server}"`);
    const bound = `ss -lun | grep -q ':5353 '`;
    await waitUntil('the server listens', () =>
      network.sh(b, bound).then(
        () => true,
        () => undefined,
      ),
    );
    assert.equal((await network.sh(a, `exec '${process.execPath}' -e "${client}"`)).trim(), 'answer');
    await answered;
    const { line, socket } = await network.dial({ from: a, ip: b.ip[4], port: 8100 });
    assert.match(line, /^outbound/);
    socket.destroy();
    assert.equal(capture.status()[0]?.repairs, 0, 'nothing of ours was damaged');
    await network.sh(a, unload);
    await waitUntil('UDP is not tracked', async () => (await isUntracked()) || undefined);
    await capture.releaseAll();
  });
}
