import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, afterEach, before, test } from 'node:test';
import { defaultCaptureSettings } from '../../../../agent/capture/capture-settings.js';
import { CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import type { NetfilterBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { NamespaceCapture, noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';
import { dialOnAndOn } from '../../../support/agent/marked-dial.js';
import { workloadNamed } from '../../../support/routing/names.js';

/** What an application that dials without a pause sees of rules that are replaced. */

const port = 8500;
const backEnds: readonly NetfilterBackend[] = [
  { kind: 'nft', iptables: { 4: 'iptables-nft', 6: 'ip6tables-nft' } },
  { kind: 'legacy', iptables: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' } },
];
const quiet = { info: () => {}, warn: () => {}, error: () => {} };

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

/** Dials on and on. `during`: the first words of the answers from before a change until the first that is seen after it. */
class Dialler implements AsyncDisposable {
  readonly #process = spawn('nsenter', [
    `--net=${network.a.path}`,
    'perl',
    '-e',
    dialOnAndOn,
    network.b.ip[4],
    String(port),
  ]);
  readonly #answers: string[] = [];

  constructor() {
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      if (line !== '') this.#answers.push(line.split(' ')[0]!);
    });
  }

  async during(change: () => Promise<unknown>): Promise<readonly string[]> {
    await this.#some();
    const from = this.#answers.length;
    await change();
    await this.#some();
    return [...new Set(this.#answers.slice(from))].toSorted();
  }

  async #some(): Promise<void> {
    const enough = this.#answers.length + 5;
    await waitUntil('it has dialled', () => (this.#answers.length >= enough ? true : undefined));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
  }
}

for (const backend of backEnds) {
  test(`nothing is refused while rules change, and nothing gets out while they are repaired: ${backend.kind}`, async () => {
    const { a, b } = network;
    await network.serveCapturePorts(a);
    await network.serve({ at: b, host: b.ip[4], port, label: 'b' });
    const workload = { name: workloadNamed('t/web'), netnsPath: a.path, addresses: [], exclusions: noExclusions };
    const capture = new NamespaceCapture({
      runner: new CommandRunner({ maxParallel: 2 }),
      backend,
      settings: defaultCaptureSettings,
      log: quiet,
      onRepair: () => {},
      workload,
      inode: netnsInode(a.path) ?? 0,
      ownCgroup: null,
    });
    await using dialler = new Dialler();
    const excluded = [{ excludeOutboundPorts: [port] }, { excludeOutboundCidrs: [`${b.ip[4]}/32`] }];
    assert.deepEqual(await dialler.during(() => capture.apply(workload)), ['b', 'outbound']);
    for (const exclusions of excluded) {
      const without = { ...workload, exclusions: { ...noExclusions, ...exclusions } };
      assert.deepEqual(await dialler.during(() => capture.apply(without)), ['b', 'outbound']);
      assert.deepEqual(await dialler.during(() => capture.apply(workload)), ['b', 'outbound']);
    }
    assert.deepEqual(await dialler.during(() => capture.apply({ ...workload, latePorts: [9999] })), ['outbound']);
    assert.deepEqual(await dialler.during(() => capture.apply(workload)), ['outbound']);
    for (const table of ['filter', 'nat']) {
      await network.sh(a, `${backend.iptables[4]} -t ${table} -F OUTPUT`);
      const seen = await dialler.during(() => capture.check({ isFull: true }));
      assert.deepEqual(seen, table === 'nat' ? ['outbound', 'refused:'] : ['outbound']);
    }
    assert.deepEqual(await dialler.during(() => capture.release({ keepsConnections: true })), ['b', 'outbound']);
    assert.deepEqual(await dialler.during(() => capture.apply(workload)), ['b', 'outbound']);
    assert.deepEqual(await dialler.during(() => capture.release({ keepsConnections: false })), ['b', 'outbound']);
    await capture.stop();
  });
}
