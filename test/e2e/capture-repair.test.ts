import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { LabWorkload } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, HeldConnection, startEcho } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';
import { netnsFingerprint } from '../support/mesh/netns-fingerprint.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** A manipulation of the rules of a workload, and the workload. */
type Damage = {
  readonly what: string;
  readonly workload: string;
  readonly script: string;
  /** Takes out what of the damage is not ours to take out. */
  readonly undo?: string;
};

/** Of a round all happen at once, each in another namespace. */
const rounds: readonly (readonly Damage[])[] = [
  [
    { what: 'the nat table of IPv4 is flushed', workload: 'client', script: 'iptables -t nat -F' },
    { what: 'the nat table of IPv6 is flushed', workload: 'neighbour', script: 'ip6tables -t nat -F' },
    {
      what: 'the mangle tables are flushed',
      workload: 'server',
      script: 'iptables -t mangle -F; ip6tables -t mangle -F',
    },
    { what: 'one chain is emptied', workload: 'spare', script: 'iptables -t nat -F CULVERT_OUTPUT' },
  ],
  [
    { what: 'everything is flushed with nft', workload: 'client', script: 'nft flush ruleset' },
    {
      what: 'rules that accept are put before ours',
      workload: 'neighbour',
      script: 'for tool in iptables ip6tables; do $tool -t nat -I OUTPUT -p tcp -j ACCEPT; done',
      undo: 'for tool in iptables ip6tables; do $tool -t nat -D OUTPUT -p tcp -j ACCEPT; done',
    },
    {
      what: 'the ip rules are deleted',
      workload: 'server',
      script: 'ip rule del pref 32764; ip -6 rule del pref 32764',
    },
    {
      what: 'the local route is deleted',
      workload: 'spare',
      script: 'ip route flush table 111; ip -6 route flush table 111',
    },
  ],
];

for (const round of rounds) {
  const what = round.map((damage) => damage.what).join(', ');
  test(
    `it is repaired within 10 s, counted and logged, and open connections go on, when ${what}`,
    { timeout: patientMs(60_000) },
    async () => {
      const damaged = await Promise.all(round.map((damage) => prepare(damage)));
      await Promise.all(damaged.map(({ workload, damage }) => workload.check(['sh', '-c', damage.script])));
      await Promise.all(
        damaged.map(({ workload, damage, repairs }) =>
          waitUntil(
            `the repair is counted after ${damage.what}`,
            async () => ((await countRepairs(workload)) > repairs ? true : undefined),
            10_000,
          ),
        ),
      );
      for (const { workload, damage, held, logged, fingerprint } of damaged) {
        assert.ok(repairLines(workload) > logged, `logged: ${damage.what}`);
        if (damage.undo !== undefined) {
          await workload.check(['sh', '-c', damage.undo]);
          // What is loaded only where others have no rules comes back when they have none any more.
          const isAsBefore = async () => ((await netnsFingerprint(workload)) === fingerprint ? true : undefined);
          await waitUntil(`the same rules after ${damage.what}`, isAsBefore, 10_000);
        }
        assert.equal(await netnsFingerprint(workload), fingerprint, damage.what);
        for (const connection of held) await connection.exchange();
        for (const connection of held) assert.equal(await connection.close(), 'end', damage.what);
      }
      const [client, server] = [mesh.lab.workload('client'), mesh.lab.workload('server')];
      await using echo = await startEcho(server);
      assert.equal(await ask(client, { ip: server.ipv4, port: echo.port }), 'ok');
      const record = await mesh
        .agent('node1')
        .waitForRecord('captured again', (line) => line.requested === `${server.ipv4}:${echo.port}`);
      assert.equal(record.path, 'hbone');
    },
  );
}

type Damaged = {
  readonly damage: Damage;
  readonly workload: LabWorkload;
  readonly held: readonly HeldConnection[];
  readonly fingerprint: string;
  readonly repairs: number;
  readonly logged: number;
};

async function prepare(damage: Damage): Promise<Damaged> {
  const workload = mesh.lab.workload(damage.workload);
  const held = await holdThrough(workload);
  const [fingerprint, repairs] = [await netnsFingerprint(workload), await countRepairs(workload)];
  return { damage, workload, held, fingerprint, repairs, logged: repairLines(workload) };
}

function countRepairs(workload: LabWorkload): Promise<number> {
  return mesh.agent(workload.host).metric('culvert_capture_repairs_total', { workload: workload.meshName });
}

function repairLines(workload: LabWorkload): number {
  const lines = loggedIn(mesh.agent(workload.host).logFile, 'have been repaired');
  return lines.filter((line) => line['workload'] === workload.meshName).length;
}

/** Connections through the capture of `workload` on both of its sides. */
async function holdThrough(workload: LabWorkload): Promise<readonly HeldConnection[]> {
  const other = mesh.lab.workload(workload.host === 'node1' ? 'server' : 'client');
  const [here, there] = await Promise.all([startEcho(workload), startEcho(other)]);
  return Promise.all([
    HeldConnection.open(workload, { ip: other.ipv4, port: there.port }),
    HeldConnection.open(workload, { ip: other.ipv6, port: there.port }),
    HeldConnection.open(other, { ip: workload.ipv4, port: here.port }),
    HeldConnection.open(other, { ip: workload.ipv6, port: here.port }),
  ]);
}
