import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { LabNode } from '../lab/lab-node.js';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, prepareMesh } from '../lab/mesh.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, HeldConnection, startEcho } from '../support/mesh/echo-traffic.js';
import { netnsFingerprint } from '../support/mesh/netns-fingerprint.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

let mesh: Mesh;
let echo: LabServer;
/** Open since before there was an agent. */
let older: HeldConnection;
let untouched: readonly string[];

/** Everything on node1 that the agent works in. */
const places = (): readonly LabNode[] => [
  mesh.lab.host('node1'),
  mesh.lab.workload('client'),
  mesh.lab.workload('neighbour'),
];
const fingerprints = (): Promise<string[]> => Promise.all(places().map((place) => netnsFingerprint(place)));
const client = () => mesh.lab.workload('client');
const toServer = () => ({ ip: mesh.lab.workload('server').ipv4, port: echo.port });

before(async () => {
  mesh = await prepareMesh({ topology: twoHosts, agentArgs: ['--drain-timeout', '4s'] });
  echo = await startEcho(mesh.lab.workload('server'));
  untouched = await fingerprints();
  older = await HeldConnection.open(client(), toServer());
  await mesh.startAgents();
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

async function assertUntouched(): Promise<void> {
  for (const [index, text] of (await fingerprints()).entries()) assert.equal(text, untouched[index]);
}

/** How many connections from the client its agent has logged so far. */
function recorded(): number {
  return mesh
    .agent('node1')
    .records()
    .filter((line) => line.sourceWorkload === 'shop/client').length;
}

test(
  '"culvert-agent remove" leaves every namespace as it was found, and traffic flows directly',
  { timeout: patientMs(60_000) },
  async () => {
    const node1 = mesh.agent('node1');
    await older.exchange();
    assert.equal(await ask(client(), toServer()), 'ok');
    await node1.stop('SIGTERM');
    assert.equal(await ask(client(), toServer()), 'ECONNREFUSED');
    assert.notDeepEqual(await fingerprints(), untouched);
    const before = recorded();
    const { code, stdout, stderr } = await node1.node.exec([
      ...programs.agent,
      'remove',
      '--state-dir',
      node1.stateDir,
    ]);
    assert.equal(code, 0, stderr);
    for (const place of [client().netnsPath, mesh.lab.workload('neighbour').netnsPath]) {
      assert.ok(stdout.split('\n').includes(`removed: ${place}`), stdout);
    }
    await assertUntouched();
    await older.exchange();
    assert.equal(await ask(client(), toServer()), 'ok');
    assert.equal(recorded(), before, 'no agent saw it');
    const again = await node1.node.exec([...programs.agent, 'remove', '--state-dir', node1.stateDir]);
    assert.equal(again.code, 0, again.stderr);
    assert.equal(again.stdout, 'nothing to remove\n');
    await assertUntouched();
  },
);

test(
  'with --remove-on-exit a stop opens the way at once, lets open connections finish and leaves nothing',
  { timeout: patientMs(60_000) },
  async () => {
    const node1 = mesh.agent('node1');
    await node1.start(['--remove-on-exit', 'true']);
    await node1.waitReady();
    const neighbour = mesh.lab.workload('neighbour');
    const [back, near] = [await startEcho(client()), await startEcho(neighbour)];
    const held = await Promise.all([
      HeldConnection.open(client(), toServer()),
      HeldConnection.open(client(), { ...toServer(), ip: mesh.lab.workload('server').ipv6 }),
      HeldConnection.open(mesh.lab.workload('server'), { ip: client().ipv4, port: back.port }),
      HeldConnection.open(client(), { ip: neighbour.ipv6, port: near.port }),
    ]);
    const stopped = node1.stop('SIGTERM');
    await waitUntil('new connections of the client are not redirected', async () =>
      /CULVERT/.test(await client().check(['iptables', '-t', 'nat', '-S', 'OUTPUT'])) ? undefined : true,
    );
    const before = recorded();
    assert.equal(await ask(client(), toServer()), 'ok', 'directly');
    // For longer than it takes to find that a namespace has nothing open.
    for (const until = Date.now() + 2500; Date.now() < until;) {
      for (const connection of held) await connection.exchange();
    }
    await older.exchange();
    for (const connection of held) assert.equal(await connection.close(), 'end');
    assert.deepEqual(await stopped, { code: 0, signal: null });
    const ended = mesh
      .agent('node1')
      .records()
      .slice(-4)
      .map(({ reason }) => reason);
    assert.deepEqual(ended, ['OK', 'OK', 'OK', 'OK']);
    assert.equal(recorded() - before, 3, 'of the client only those that it held');
    await assertUntouched();
    await older.exchange();
    assert.equal(await ask(client(), toServer()), 'ok');
    assert.equal(await older.close(), 'end');
  },
);

test(
  '"remove" is refused while an agent runs: nothing changes, and it says how to go on',
  { timeout: patientMs(60_000) },
  async () => {
    const node1 = mesh.agent('node1');
    await node1.start();
    await node1.waitReady();
    const captured = await fingerprints();
    const refused = await node1.node.exec([...programs.agent, 'remove', '--state-dir', node1.stateDir]);
    assert.equal(refused.code, 2, refused.stderr);
    assert.match(refused.stderr, /the agent runs \(pid \d+\).*nothing was removed \(stop it first.*\[AGENT_RUNS\]/);
    // Another state directory knows of no agent, but the namespaces are served.
    const other = await node1.node.exec([...programs.agent, 'remove', '--state-dir', `${node1.stateDir}-other`]);
    assert.equal(other.code, 2, other.stderr);
    assert.match(other.stderr, /an agent runs: it listens in .*\[AGENT_RUNS\]/);
    assert.deepEqual(await fingerprints(), captured);
    assert.equal(await ask(client(), toServer()), 'ok');
  },
);

test(
  '"remove" finds what no list names any more, and leaves the agents of other hosts alone',
  { timeout: patientMs(60_000) },
  async () => {
    const node1 = mesh.agent('node1');
    await node1.stop('SIGKILL');
    assert.equal(await ask(client(), toServer()), 'ECONNREFUSED');
    rmSync(path.join(node1.stateDir, 'captured.json'));
    const removed = await node1.node.exec([...programs.agent, 'remove', '--state-dir', node1.stateDir]);
    assert.equal(removed.code, 0, removed.stderr);
    assert.ok(removed.stdout.split('\n').includes(`removed: ${client().netnsPath}`), removed.stdout);
    await assertUntouched();
    assert.match(await mesh.lab.workload('server').check(['iptables-save']), /CULVERT/, 'that is the other host');
  },
);

test('"remove" says what is left, and ends with 1', { timeout: patientMs(60_000) }, async () => {
  const node1 = mesh.agent('node1');
  await node1.start();
  await node1.waitReady();
  await node1.stop('SIGKILL');
  // A rule of another program that uses a chain of ours, which the kernel then does not delete.
  await client().check(['iptables', '-t', 'nat', '-N', 'FOREIGN']);
  await client().check(['iptables', '-t', 'nat', '-A', 'FOREIGN', '-g', 'CULVERT_OUTPUT']);
  const partly = await node1.node.exec([...programs.agent, 'remove', '--state-dir', node1.stateDir]);
  assert.equal(partly.code, 1, partly.stderr);
  assert.match(
    partly.stderr,
    new RegExp(`capture is still in place: ${client().netnsPath}: [^]*\\[REMOVE_INCOMPLETE\\]`),
  );
  await client().check(['iptables', '-t', 'nat', '-F', 'FOREIGN']);
  await client().check(['iptables', '-t', 'nat', '-X', 'FOREIGN']);
  const again = await node1.node.exec([...programs.agent, 'remove', '--state-dir', node1.stateDir]);
  assert.equal(again.code, 0, again.stderr);
  assert.equal(await ask(client(), toServer()), 'ok');
});
