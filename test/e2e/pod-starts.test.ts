import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { prepareMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import {
  cniConfig,
  cniEnvironment,
  previousResult,
  runCniPlugin,
  type CniAnswer,
  type CniCommand,
  type CniError,
} from '../support/agent/cni-plugin.js';
import { startEcho } from '../support/mesh/echo-traffic.js';
import { ReplacedWorkload } from '../support/mesh/replaced-workload.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

function socketOf(agent: MeshAgent): string {
  return path.join(agent.stateDir, 'cni.sock');
}

function listOf(agent: MeshAgent): string {
  return path.join(agent.stateDir, 'cni-enrolled');
}

/** What the container runtime of the agent's host calls. */
function plugin(
  agent: MeshAgent,
  o: { readonly command: CniCommand; readonly netns: string; readonly namespace?: string; readonly timeoutMs?: number },
): Promise<CniAnswer> {
  const { command, netns, namespace = 'shop', timeoutMs = 30_000 } = o;
  return runCniPlugin({
    env: cniEnvironment({ command, netns: `/var/run/netns/${netns}`, namespace }),
    stdin: cniConfig({ socket: socketOf(agent), enrolled: listOf(agent), timeoutMs }),
  });
}

function assertPassed({ code, stdout }: CniAnswer): void {
  assert.deepEqual({ code, stdout }, { code: 0, stdout: `${previousResult}\n` });
}

test(
  'a pod starts when its first connection is captured; without an agent it waits, and pods outside the mesh do not',
  { timeout: patientMs(180_000) },
  async (t) => {
    await using mesh = await prepareMesh({ topology: twoHosts });
    const [node1, node2] = [mesh.agent('node1'), mesh.agent('node2')];
    const config = path.join(mesh.lab.tempDir, 'net.d');
    const bin = path.join(mesh.lab.tempDir, 'bin');
    const cniFlags = ['--cni-config-dir', config, '--cni-bin-dir', bin];
    const withSocket = (): Promise<void> => node1.start(cniFlags);
    const before = '{ "cniVersion": "1.0.0", "name": "pods", "plugins": [ { "type": "bridge" } ] }\n';
    for (const each of [config, bin]) mkdirSync(each);
    writeFileSync(path.join(config, '10-pods.conflist'), before);
    const plugins = (): readonly { readonly type: string }[] =>
      (JSON.parse(readFileSync(path.join(config, '10-pods.conflist'), 'utf8')) as { plugins: [] }).plugins;
    await Promise.all([node1.fetchToken(), node2.fetchToken()]);
    await Promise.all([withSocket(), node2.start()]);
    await Promise.all([node1.waitReady(), node2.waitReady()]);
    await waitUntil('the list is written', () =>
      readFileSync(listOf(node1), 'utf8') === 'culvert-enrolled 2\nnamespace shop\nend 1\n' ? true : undefined,
    );

    await waitUntil('the plugin is in the chain', () => (plugins().length === 2 ? true : undefined));
    const { stateDir } = node1;
    const entry = { type: 'culvert-cni', socket: socketOf(node1), enrolled: path.join(stateDir, 'cni-enrolled') };
    assert.deepEqual(plugins()[1], { ...entry, ownNamespace: 'culvert-system' });
    assert.ok(existsSync(path.join(bin, 'culvert-cni')));

    // No socket of this process may be in it, which would hold the old namespace.
    const neighbour = mesh.lab.workload('neighbour');
    const server = mesh.lab.workload('server');
    const echo = await startEcho(server);
    const say = ['socat', '-t', '5', '-', `TCP:${server.ipv4}:${echo.port}`];
    const replaced = new ReplacedWorkload(mesh, neighbour);
    const startPod = async (what: string): Promise<void> => {
      await replaced.remove();
      await replaced.create();
      const since = Date.now();
      const answer = await plugin(node1, { command: 'ADD', netns: neighbour.netns });
      t.diagnostic(`${what}: ADD took ${answer.tookMs.toFixed(1)} ms`);
      assertPassed(answer);
      assert.equal((await neighbour.exec(say, { input: what })).stdout, what);
      const outbound = await node1.waitForRecord(
        'the first connection',
        (line) => line.sourceWorkload === 'shop/neighbour' && Date.parse(line.startedAt) >= since - 5,
      );
      assert.deepEqual([outbound.reason, outbound.path], ['OK', 'hbone']);
    };
    for (const what of ['first', 'second', 'third']) await startPod(what);
    assert.deepEqual(
      node2.records().filter((line) => line.path !== 'hbone'),
      [],
      'nothing of it came in the clear',
    );
    assert.equal((await plugin(node1, { command: 'CHECK', netns: neighbour.netns })).code, 0);

    // The agent dies: pods of its namespaces wait for the next one, and all others start.
    await node1.stop('SIGKILL');
    assertPassed(await plugin(node1, { command: 'ADD', netns: neighbour.netns, namespace: 'guests' }));
    assertPassed(await plugin(node1, { command: 'ADD', netns: neighbour.netns, namespace: 'kube-system' }));
    assert.equal((await plugin(node1, { command: 'DEL', netns: neighbour.netns })).code, 0);
    const refused = await plugin(node1, { command: 'ADD', netns: neighbour.netns, timeoutMs: 300 });
    assert.match((JSON.parse(refused.stdout) as CniError).msg, /it starts when the agent does/);
    await replaced.remove();
    await replaced.create();
    const waiting = plugin(node1, { command: 'ADD', netns: neighbour.netns, timeoutMs: 120_000 });
    await withSocket();
    assertPassed(await waiting);
    assert.equal((await neighbour.exec(say, { input: 'again' })).stdout, 'again');

    // The next agent takes over under a pod that starts.
    const first = node1.process;
    await withSocket();
    await startPod('while another agent takes over');
    await node1.waitReady();
    await startPod('after another agent took over');

    // An agent that has ended leaves the plugin; the command that removes capture takes it out too.
    await Promise.all([first.exited, node1.stop()]);
    assert.equal(plugins().length, 2);
    const removed = await node1.node.exec([...programs.agent, 'remove', '--state-dir', stateDir, ...cniFlags]);
    assert.equal(removed.code, 0, removed.stderr);
    assert.equal(readFileSync(path.join(config, '10-pods.conflist'), 'utf8'), before);
    assert.deepEqual(readdirSync(bin), []);
  },
);
