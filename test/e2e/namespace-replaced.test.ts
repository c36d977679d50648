import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LabWorkload } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { loggedIn, waitForLog } from '../support/mesh/log-lines.js';
import { requireSuccess } from '../lab/command.js';
import { ask, startEcho } from '../support/mesh/echo-traffic.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

/**
 * What a container runtime does at a restart: the namespace goes, and another one comes under the same name with the same
 * addresses. A process with a socket in the old one keeps it alive, and with it the canary's far end in the fabric.
 */
class ReplacedWorkload {
  readonly #workload: LabWorkload;
  readonly #hostNetns: string;
  readonly #host: { readonly ipv4: string; readonly ipv6: string };
  readonly #canary = 'canary0';

  constructor(mesh: Mesh, workload: LabWorkload) {
    this.#workload = workload;
    const host = mesh.lab.host(workload.host);
    this.#hostNetns = host.netns;
    this.#host = host;
  }

  /** A pair of links, one end in the workload's namespace, the other on its host. */
  async placeCanary(): Promise<void> {
    await this.#ip(
      this.#hostNetns,
      `link add ${this.#canary} type veth peer name canary1 netns ${this.#workload.netns}`,
    );
  }

  async hasCanary(): Promise<boolean> {
    const links = await requireSuccess(['ip', '-n', this.#hostNetns, '-o', 'link']);
    return links.includes(`${this.#canary}@`);
  }

  /** Ends the link to the host and the name; what holds the namespace itself, holds it on. */
  async remove(): Promise<void> {
    const links = await requireSuccess(['ip', '-n', this.#hostNetns, 'route', 'show', this.#workload.ipv4]);
    const link = / dev (\S+)/.exec(links)?.[1] ?? '';
    // The link first: a namespace that nothing holds takes its own with it.
    await requireSuccess(['ip', '-n', this.#hostNetns, 'link', 'del', link]);
    await requireSuccess(['ip', 'netns', 'del', this.#workload.netns]);
  }

  async create(): Promise<void> {
    const { netns, ipv4, ipv6 } = this.#workload;
    await requireSuccess(['ip', 'netns', 'add', netns]);
    const sysctls =
      'echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad';
    await requireSuccess(['nsenter', `--net=/run/netns/${netns}`, 'sh', '-c', sysctls]);
    await this.#ip(
      this.#hostNetns,
      `link add again0 type veth peer name eth0 netns ${netns}`,
      'link set again0 up',
      'addr add fe80::1/64 dev again0 nodad',
      `route add ${ipv4}/32 dev again0 src ${this.#host.ipv4}`,
      `route add ${ipv6}/128 dev again0 src ${this.#host.ipv6}`,
    );
    await this.#ip(
      netns,
      'link set lo up',
      'link set eth0 up',
      `addr add ${ipv4}/32 dev eth0`,
      `addr add ${ipv6}/128 dev eth0 nodad`,
      'route add 169.254.1.1/32 dev eth0 scope link',
      'route add default via 169.254.1.1 dev eth0',
      'route add default via fe80::1 dev eth0',
    );
  }

  async #ip(netns: string, ...lines: readonly string[]): Promise<void> {
    await requireSuccess(['ip', '-n', netns, '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }
}

test(
  'a namespace that is replaced under its name is released and captured again, and nothing keeps the old one alive',
  { timeout: patientMs(90_000) },
  async () => {
    await using mesh = await startMesh({ topology: twoHosts });
    const node1 = mesh.agent('node1');
    // This process must not open a socket in the neighbour before it is replaced: that would hold the old namespace.
    const [neighbour, server, client] = ['neighbour', 'server', 'client'].map((name) => mesh.lab.workload(name)) as [
      LabWorkload,
      LabWorkload,
      LabWorkload,
    ];
    const echo = await startEcho(server);
    const toServer = { ip: server.ipv4, port: echo.port };
    const say = ['socat', '-t', '2', '-', `TCP:${toServer.ip}:${toServer.port}`];
    assert.equal((await neighbour.exec(say, { input: 'through a tunnel' })).stdout, 'through a tunnel');
    const open = await neighbour.spawn(['socat', '-u', `TCP:${toServer.ip}:${toServer.port}`, '-']);
    await waitUntil('a connection is open there', async () =>
      JSON.stringify(await node1.admin('/connections')).includes('shop/neighbour') ? true : undefined,
    );
    const replaced = new ReplacedWorkload(mesh, neighbour);
    await replaced.placeCanary();

    // The application dies with its container; the agent still has its end, and an idle tunnel, in the namespace.
    await open.stop('SIGKILL');
    await replaced.remove();
    const gone = await waitForLog(node1.logFile, 'workload released', { deadlineMs: 15_000 });
    assert.deepEqual([gone['workload'], gone['why']], ['shop/neighbour', 'its namespace no longer exists']);
    await waitUntil('nothing holds the old namespace', async () => ((await replaced.hasCanary()) ? undefined : true));
    const { readiness } = (await node1.admin('/dump')) as {
      readiness: { pending: { name: string; detail: string }[] };
    };
    assert.ok(
      readiness.pending.some(({ name }) => name === 'capture/shop/neighbour'),
      JSON.stringify(readiness),
    );
    assert.equal(await node1.metric('culvert_workloads', { state: 'captured' }), 1);
    assert.equal(await ask(client, toServer), 'ok', 'the other workload is served');

    await replaced.create();
    await node1.waitReady();
    const since = Date.now();
    assert.equal(await ask(neighbour, toServer), 'ok');
    const record = await node1.waitForRecord(
      'captured again',
      (line) => line.sourceWorkload === 'shop/neighbour' && Date.parse(line.startedAt) >= since - 5,
    );
    assert.deepEqual([record.reason, record.path], ['OK', 'hbone']);
    const back = await startEcho(neighbour);
    assert.equal(await ask(server, { ip: neighbour.ipv6, port: back.port }), 'ok');
    assert.equal(await node1.metric('culvert_workloads', { state: 'captured' }), 2);
    assert.deepEqual(loggedIn(node1.logFile, 'capture could not be removed'), []);
  },
);

test('a namespace that is replaced in one step is also captured again', { timeout: patientMs(90_000) }, async () => {
  await using mesh = await startMesh({ topology: twoHosts });
  const node1 = mesh.agent('node1');
  const [neighbour, server] = ['neighbour', 'server'].map((name) => mesh.lab.workload(name)) as [
    LabWorkload,
    LabWorkload,
  ];
  const echo = await startEcho(server);
  const replaced = new ReplacedWorkload(mesh, neighbour);
  await replaced.placeCanary();
  await replaced.remove();
  await replaced.create();
  const gone = await waitForLog(node1.logFile, 'workload released', { deadlineMs: 15_000 });
  assert.match(String(gone['why']), /its namespace (no longer exists|was replaced|is gone)/);
  await waitUntil('nothing holds the old namespace', async () => ((await replaced.hasCanary()) ? undefined : true));
  await waitForLog(node1.logFile, 'workload captured', { seen: 2 });
  await node1.waitReady();
  assert.equal(await ask(neighbour, { ip: server.ipv4, port: echo.port }), 'ok');
  const record = await node1.waitForRecord('captured again', (line) => line.sourceWorkload === 'shop/neighbour');
  assert.deepEqual([record.reason, record.path], ['OK', 'hbone']);
});
