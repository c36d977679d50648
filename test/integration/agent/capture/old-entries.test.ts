import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { defaultCaptureSettings } from '../../../../agent/capture/capture-settings.js';
import { CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import type { NetfilterBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { NamespaceCapture, noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { listenTcp } from '../../../../agent/native/addon.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { ownTrafficMark } from '../../../../agent/ports.js';
import { CaptureNetwork, type NetworkPlace } from '../../../support/agent/capture-network.js';
import { TestCgroup } from '../../../support/agent/cgroups.js';
import { markedDial } from '../../../support/agent/marked-dial.js';
import { workloadNamed } from '../../../support/routing/names.js';

/** What conntrack remembers of a dial of the agent must not lead another program's connection past capture. */

const families = [4, 6] as const;
const backEnds: readonly NetfilterBackend[] = [
  { kind: 'nft', iptables: { 4: 'iptables-nft', 6: 'ip6tables-nft' } },
  { kind: 'legacy', iptables: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' } },
];
const quiet = { info: () => {}, warn: () => {}, error: () => {} };

let network: CaptureNetwork;
let cgroup: TestCgroup;
before(() => {
  cgroup = new TestCgroup();
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(async () => {
  await network[Symbol.asyncDispose]();
  cgroup[Symbol.dispose]();
});

type Dial = { readonly ip: string; readonly port: number; readonly from: number };

/** As an application, or with the mark in the agent's cgroup: the first word of the answer, `outbound` from the agent. */
async function dial(who: 'application' | 'agent', { ip, port, from }: Dial): Promise<string> {
  const mark = who === 'agent' ? ownTrafficMark : 0;
  const program = [`--net=${network.a.path}`, 'perl', '-e', markedDial, ip, String(port), String(mark), String(from)];
  const said = who === 'agent' ? await cgroup.run('nsenter', program) : await network.sh(network.a, shell(program));
  return said.split(' ')[0]!.trim();
}

function shell(program: readonly string[]): string {
  return program
    .slice(1)
    .map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`)
    .join(' ');
}

/** It accepts connections, and resets each of them. */
async function resettingServer(at: NetworkPlace, host: string, port: number): Promise<AsyncDisposable> {
  const fd = listenTcp({ netnsFd: at.fd, host, port, backlog: 8, reusePort: false, transparent: false });
  const server = createServer((socket) => void socket.resetAndDestroy()).listen({ fd });
  await once(server, 'listening');
  return {
    async [Symbol.asyncDispose]() {
      if (server.listening) await once(server.close(), 'close');
    },
  };
}

for (const [index, backend] of backEnds.entries()) {
  for (const family of families) {
    test(`the agent's former port leads no other program past it: ${backend.kind}, IPv${family}`, async () => {
      const { a, b } = network;
      const from = 45_000 + 100 * index + 10 * family;
      const ip = b.ip[family];
      await network.serveCapturePorts(a);
      const capture = new NamespaceCapture({
        runner: new CommandRunner({ maxParallel: 2 }),
        backend,
        settings: defaultCaptureSettings,
        log: quiet,
        onRepair: () => {},
        workload: { name: workloadNamed('t/web'), netnsPath: a.path, addresses: [], exclusions: noExclusions },
        inode: netnsInode(a.path) ?? 0,
        ownCgroup: cgroup.path,
      });
      await capture.apply(capture.workload);

      // Reset by the server: an entry for ten seconds.
      await using resetting = await resettingServer(b, ip, 8501);
      assert.match(await dial('agent', { ip, port: 8501, from }), /^(?:reset:|CLOSED)$/);
      await resetting[Symbol.asyncDispose]();
      // Never answered: an entry for two minutes.
      const silence = `${family === 4 ? 'iptables' : 'ip6tables'}-nft -I INPUT -p tcp --dport 8502 -j DROP`;
      await network.sh(b, silence);
      assert.equal(await dial('agent', { ip, port: 8502, from }), 'TIMEOUT');
      await network.sh(b, silence.replace('-I', '-D'));
      for (const port of [8501, 8502]) {
        await network.serve({ at: b, host: ip, port, label: 'b' });
        assert.equal(await dial('application', { ip, port, from }), 'refused:', `to port ${port}`);
        assert.equal(await dial('application', { ip, port, from: from + 1 }), 'outbound');
        assert.equal(await dial('agent', { ip, port, from: from + 2 }), 'b');
      }
      await capture.release({ keepsConnections: false });
      assert.equal(await dial('application', { ip, port: 8502, from }), 'b', 'without capture');
    });
  }
}
