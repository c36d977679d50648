import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { defaultCaptureSettings } from '../../../../agent/capture/capture-settings.js';
import type { CaptureLog } from '../../../../agent/capture/firewall/capture-log.js';
import type { CaptureRepair } from '../../../../agent/capture/firewall/captured-netns.js';
import { CommandRunner, type Command, type CommandResult } from '../../../../agent/capture/firewall/command-runner.js';
import { detectBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { NamespaceCapture, noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';

const silent: CaptureLog = { info: () => {}, warn: () => {}, error: () => {} };

/** Runs another program's command right after a load of rules, before they are read back. */
class DisturbedRunner extends CommandRunner {
  disturb: (() => Promise<unknown>) | null = null;
  readonly #loaded = new Set<4 | 6>();

  override async run(command: Command): Promise<CommandResult> {
    const result = await super.run(command);
    const { disturb } = this;
    if (disturb === null || !command.argv[0].endsWith('-restore')) return result;
    // Both families are loaded at the same time.
    this.#loaded.add(command.argv[0].startsWith('ip6tables') ? 6 : 4);
    if (this.#loaded.size < 2) return result;
    this.#loaded.clear();
    this.disturb = null;
    await disturb();
    return result;
  }
}

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

const disturbances: readonly [string, string, RegExp][] = [
  ['a table is flushed', 'ip6tables -t mangle -F', /IPv6 mangle: missing/],
  ['the ip rule is deleted', 'ip rule del pref 32764', /ip rule .* is missing/],
  ['the local route is deleted', 'ip -6 route flush table 111', /ip route .* is missing/],
  [
    'a rule is replaced by another',
    'iptables -t nat -R CULVERT_OUTPUT 1 -p tcp -j ACCEPT',
    /IPv4 nat: (missing|unexpected)/,
  ],
];

for (const [what, script, expected] of disturbances) {
  test(`when ${what} during a reload, the next check finds it, and both repairs are counted`, async () => {
    await network.serveCapturePorts(network.a);
    const runner = new DisturbedRunner({ maxParallel: 4 });
    const reported: CaptureRepair[] = [];
    const name = workloadNamed('t/a');
    const capture = new NamespaceCapture({
      runner,
      backend: await detectBackend(runner),
      settings: defaultCaptureSettings,
      log: silent,
      onRepair: (repair) => reported.push(repair),
      workload: { name, netnsPath: network.a.path, addresses: [], exclusions: noExclusions },
      inode: netnsInode(network.a.path) ?? 0,
      ownCgroup: null,
    });
    await capture.apply(capture.workload);
    const intact = await network.fingerprint(network.a);
    await network.sh(network.a, 'iptables -t nat -F CULVERT_PREROUTING');
    runner.disturb = () => network.sh(network.a, script);
    assert.equal(await capture.check({ isFull: true }), 'failed');
    assert.equal(capture.isUnsettled, true, 'so the next check comes soon');
    assert.equal(await capture.check({ isFull: false }), 'repaired');
    assert.equal(capture.isUnsettled, false);
    assert.equal(await network.fingerprint(network.a), intact);
    const found = reported.flatMap((repair) => repair.found).join('\n');
    assert.match(found, /IPv4 nat: missing/);
    assert.match(found, expected);
    assert.equal(capture.status().repairs, 1);
    await capture.release({ keepsConnections: false });
    await capture.stop();
  });

  test(`when ${what} during the first load, the load fails and is tried again`, async () => {
    await network.serveCapturePorts(network.b);
    const runner = new DisturbedRunner({ maxParallel: 4 });
    const name = workloadNamed('t/b');
    const capture = new NamespaceCapture({
      runner,
      backend: await detectBackend(runner),
      settings: defaultCaptureSettings,
      log: silent,
      onRepair: () => {},
      workload: { name, netnsPath: network.b.path, addresses: [], exclusions: noExclusions },
      inode: netnsInode(network.b.path) ?? 0,
      ownCgroup: null,
    });
    runner.disturb = () => network.sh(network.b, script);
    await assert.rejects(capture.apply(capture.workload), { code: 'CAPTURE_RULES' });
    assert.equal(capture.isUnsettled, true);
    await capture.check({ isFull: false });
    assert.equal(capture.isUnsettled, false);
    assert.equal(capture.status().state, 'captured');
    await capture.release({ keepsConnections: false });
    await capture.stop();
  });
}
