import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { type CaptureProgram, CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import { noExclusions, workloadHooks } from '../../../../agent/capture/namespace-capture.js';
import { detectBackend, type NetfilterBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { RuleSet } from '../../../../agent/capture/firewall/rule-set.js';
import { planWorkloadChains } from '../../../../agent/capture/firewall/workload-rules.js';
import { ownTrafficMark } from '../../../../agent/ports.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';

const backEnds: readonly NetfilterBackend[] = [
  { kind: 'nft', iptables: { 4: 'iptables-nft', 6: 'ip6tables-nft' } },
  { kind: 'legacy', iptables: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' } },
];
const families = [4, 6] as const;
const runner = new CommandRunner({ maxParallel: 2 });
const plans = { 4: planWorkloadChains(4, noExclusions), 6: planWorkloadChains(6, noExclusions) };

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

for (const backend of backEnds) {
  test(`the ${backend.kind} back end captures, shows what was changed, and gives everything back`, async () => {
    const { a, b, x } = network;
    const rules = new RuleSet({ runner, backend, hasRoutes: true, hooks: workloadHooks });
    await network.serveCapturePorts(a);
    await network.serve({ at: a, port: 8300, label: 'app' });
    assert.equal(await rules.install(a.fd, plans), 'on');
    assert.deepEqual((await rules.check(a.fd)).differences, []);
    for (const family of families) {
      const outbound = await network.dial({ from: a, ip: b.ip[family], port: 8301 });
      assert.match(outbound.line, /^outbound .*8301/);
      outbound.socket.destroy();
      const borrowed = { from: a, ip: a.ip[family], port: 8300, mark: ownTrafficMark, source: x.ip[family] };
      const own = await network.dial(borrowed);
      assert.equal(own.line, `app direct ${x.ip[family]}`);
      own.socket.destroy();
    }
    await network.sh(a, `${backend.iptables[6]} -w 5 -t nat -F CULVERT_OUTPUT`);
    const { differences } = await rules.check(a.fd);
    assert.ok(differences.length > 0 && differences.every((line) => line.startsWith('IPv6 nat: missing')));
    await rules.remove(a.fd);
    const left = await network.sh(
      a,
      `${backend.iptables[4]}-save; ${backend.iptables[6]}-save; ip rule; ip route show table all`,
    );
    assert.doesNotMatch(left, /CULVERT|culvert|0x111/);
    if (backend.kind === 'nft') assert.equal((await network.sh(a, 'nft list ruleset')).trim(), '');
  });
}

const latePorts = Array.from({ length: 20 }, (_, index) => 8000 + index);
const latePlans = {
  4: planWorkloadChains(4, noExclusions, { latePorts }),
  6: planWorkloadChains(6, noExclusions, { latePorts }),
};
for (const backend of backEnds) {
  test(`the ${backend.kind} back end has a queue for late accept only while a port asks for it`, async () => {
    const { a } = network;
    const rules = new RuleSet({ runner, backend, hasRoutes: true, hooks: workloadHooks });
    const queues = async (): Promise<number> => {
      const saved = await network.sh(a, `${backend.iptables[4]}-save; ${backend.iptables[6]}-save`);
      return (saved.match(/NFQUEUE/g) ?? []).length;
    };
    for (const [given, expected] of [
      [latePlans, 4],
      [plans, 0],
      [latePlans, 4],
    ] as const) {
      await rules.install(a.fd, given);
      assert.deepEqual((await rules.check(a.fd)).differences, []);
      assert.equal(await queues(), expected);
    }
    // What open connections need stays, and a SYN that nothing takes out of a queue would wait for ever.
    await rules.removeRedirects(a.fd);
    assert.equal(await queues(), 0);
    await rules.remove(a.fd);
    assert.doesNotMatch(await network.sh(a, `${backend.iptables[4]}-save; ${backend.iptables[6]}-save`), /CULVERT/);
  });
}

test('the back end of this host is found without creating a table', async () => {
  const legacyTables = (): string => readFileSync('/proc/net/ip_tables_names', 'utf8');
  const found = legacyTables();
  const backend = await detectBackend(runner);
  assert.match(backend.iptables[4], /^iptables/);
  assert.equal(legacyTables(), found);
});

test('a program that is missing is named together with its package', async () => {
  const absent = 'iptables-that-is-not-there' as CaptureProgram;
  await assert.rejects(
    runner.run({ argv: [absent, '-V'], netnsFd: network.a.fd }),
    /iptables-that-is-not-there cannot be run/,
  );
  await assert.rejects(runner.run({ argv: [absent], netnsFd: null }), /cannot be run: .*ENOENT/);
});
