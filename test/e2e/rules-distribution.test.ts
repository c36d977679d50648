import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import type { StatusAnswer } from '../../controller/api/api-types.js';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, HeldConnection, startEcho, type EchoTarget } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';
import { segmentationRule } from '../support/mesh/rule-world.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

let mesh: Mesh;
let servers: { readonly server: LabServer; readonly spare: LabServer };

before(async () => {
  // An agent that is cut off stays one that a rollout waits for, however slow the machine is.
  mesh = await startMesh({ topology: twoHosts, controllerArgs: ['--agent-stale-after', '60s'] });
  servers = { server: await startEcho(workload('server')), spare: await startEcho(workload('spare')) };
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const workload = (name: string) => mesh.lab.workload(name);
const target = (name: 'server' | 'spare'): EchoTarget => ({ ip: workload(name).ipv4, port: servers[name].port });

/** Both workloads are on the second host: only its agent decides. */
const within = (from: string, to: string): string =>
  `{ action: deny, from: [{ workload: shop/${from} }], to: [{ workload: shop/${to} }] }`;

async function applyOnly(documents: string): Promise<number> {
  const { revision } = (await mesh.controller.culvertJson(['apply', '-f', '-'], documents)) as { revision: number };
  return revision;
}

async function isConnected(agent: string, value: 0 | 1): Promise<void> {
  await waitUntil(
    `culvert_nats_connected of ${agent} is ${value}`,
    async () => ((await mesh.agent(agent).metric('culvert_nats_connected')) === value ? true : undefined),
    30_000,
  );
}

test(
  'an agent that is cut off during three revisions goes on, and then takes the newest in one step',
  { timeout: patientMs(90_000) },
  async () => {
    const [host, node2] = [mesh.lab.host('node2'), mesh.agent('node2')];
    const before = await mesh.apply(segmentationRule('within', within('neighbour', 'spare')));
    const doomed = await HeldConnection.open(workload('server'), target('spare'));
    const spared = await HeldConnection.open(workload('spare'), target('server'));
    const received = loggedIn(node2.logFile, 'rules received').length;
    // Nothing comes in but the resets that tell the agent at its next heartbeat.
    const noNats = [
      ['OUTPUT', '-p', 'tcp', '--dport', '4222', '-j', 'REJECT', '--reject-with', 'tcp-reset'],
      ['INPUT', '-p', 'tcp', '--sport', '4222', '!', '--tcp-flags', 'RST', 'RST', '-j', 'DROP'],
    ];
    for (const rule of noNats) await host.check(['iptables', '-w', '-I', ...rule]);

    // The second of them would cut the connection that the third lets live.
    await applyOnly(segmentationRule('within', within('neighbour', 'server')));
    await applyOnly(segmentationRule('within', within('spare', 'server')));
    const newest = await applyOnly(segmentationRule('within', within('server', 'spare')));
    await mesh.agent('node1').waitForRevision(newest);
    await isConnected('node2', 0);
    for (const held of [doomed, spared]) await held.exchange();
    assert.equal(await ask(workload('server'), target('spare')), 'ok', 'what was last known is in force');
    assert.equal(await node2.metric('culvert_enforced_revision'), before);

    const waited = await mesh.controller.culvert(['rollout', 'status', '--wait', '1s']);
    assert.equal(waited.code, 1, waited.stderr);
    assert.match(waited.stdout, new RegExp(`^revision ${newest}: not complete, enforced by 1 of 2 agents`));
    assert.match(waited.stdout, new RegExp(`^node1 +done +${newest} +-$`, 'm'));
    assert.match(waited.stdout, new RegExp(`^node2 +behind +${before} +it enforces revision ${before}$`, 'm'));
    assert.match(waited.stderr, /after 1s these agents do not enforce revision \d+ yet: node2\b.*\[AGENTS_BEHIND\]/);

    for (const rule of noNats) await host.check(['iptables', '-w', '-D', ...rule]);
    const complete = await mesh.controller.culvert(['rollout', 'status', '--wait', '25s']);
    assert.equal(complete.code, 0, complete.stderr + complete.stdout);
    await node2.waitForRevision(newest);
    assert.equal(await doomed.ending(), 'ECONNRESET');
    assert.equal(await ask(workload('server'), target('spare')), 'ECONNRESET');
    await spared.exchange();
    assert.equal(await spared.close(), 'end');
    const steps = loggedIn(node2.logFile, 'rules received').slice(received);
    assert.deepEqual(
      steps.map((line) => line['revision']),
      [newest],
    );
    assert.equal(await node2.metric('culvert_rules_alarms_total'), 0);
    assert.ok(
      (await node2.metric('culvert_rules_age_seconds')) < patientMs(120_000) / 1000,
      'the controller confirms them',
    );
  },
);

/** Writes into NATS what the controller never wrote, with the controller's own credential. */
async function tamper(what: string, revision: number): Promise<void> {
  const script = fileURLToPath(new URL('../support/mesh/rogue-controller.js', import.meta.url));
  const argv = [process.execPath, script, mesh.controller.stateDir, what, String(revision)];
  await mesh.controller.node.check(argv, { timeoutMs: 30_000 });
}

async function alarmsInStatus(): Promise<(string | undefined)[]> {
  const { agents } = (await mesh.controller.api('/v1/status')) as StatusAnswer;
  return agents.map(({ heartbeat }) => heartbeat?.rulesAlarm);
}

/** The controller looks after its store every 30 s and then repairs it, so that an alarm may end before it was seen. */
async function tamperUntilSeen(what: string, revision: number, problem: RegExp): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    await tamper(what, revision);
    try {
      await waitUntil(
        `both agents say ${problem.source}`,
        async () => ((await alarmsInStatus()).every((alarm) => problem.test(alarm ?? '')) ? true : undefined),
        5000,
      );
      const { stdout } = await mesh.controller.culvert(['status']);
      assert.match(stdout, /^ALARM: node1 rejects the rules in NATS: /m);
      assert.match(stdout, /^ALARM: node2 rejects the rules in NATS: /m);
      return;
    } catch (error) {
      if (attempt === 3) throw new Error(`${what}: ${JSON.stringify(await alarmsInStatus())}`, { cause: error });
    }
  }
}

const tamperings = [
  ['forge', 'is refused: .* is not signed with a key', 'unusable', 1],
  ['damage', 'is refused: .* is not signed with a key', 'unusable', 1],
  ['relabel', 'is refused: it says that it is revision', 'unusable', 1],
  ['replay', 'is in force, and the store now says', 'backwards', -1],
] as const;

for (const [what, problem, kind, step] of tamperings) {
  test(
    `forged rules in NATS are rejected with an alarm, and the next valid ones are applied: ${what}`,
    { timeout: patientMs(90_000) },
    async () => {
      const denied = segmentationRule('tampered', '{ action: deny, from: [{ serviceAccount: shop/neighbour }] }');
      await mesh.apply(
        `${denied}---\n${segmentationRule('unrelated', `{ action: deny, reason: ${what}, ports: [9] }`)}`,
      );
      const revision = await mesh.apply(
        segmentationRule('unrelated', `{ action: deny, ports: [9, 10], reason: ${what} }`),
      );
      const logs = mesh.agents.map(({ logFile }) => loggedIn(logFile, 'rules refused').length);
      const counted = await Promise.all(
        mesh.agents.map((agent) => agent.metric('culvert_rules_alarms_total', { kind })),
      );

      await tamperUntilSeen(what, revision + step, new RegExp(problem));
      for (const [index, agent] of mesh.agents.entries()) {
        const line = loggedIn(agent.logFile, 'rules refused')
          .slice(logs[index])
          .find((logged) => logged['alarm'] === kind);
        assert.match(String(line?.['problem']), new RegExp(problem));
        assert.equal(line?.['revisionInForce'], revision);
        assert.ok((await agent.metric('culvert_rules_alarms_total', { kind })) > (counted[index] ?? 0));
        assert.equal(await agent.metric('culvert_enforced_revision'), revision);
      }
      assert.equal(await ask(workload('neighbour'), target('server')), 'ECONNRESET', 'the last good rules hold');
      assert.equal(await ask(workload('client'), target('server')), 'ok');

      const next = await mesh.apply(
        segmentationRule('tampered', '{ action: deny, from: [{ workload: shop/client }] }'),
      );
      assert.equal(next, revision + 1, 'a forgery costs no revision');
      assert.equal(await ask(workload('neighbour'), target('server')), 'ok');
      assert.equal(await ask(workload('client'), target('server')), 'ECONNRESET');
      await waitUntil('no agent refuses rules any more', async () =>
        (await alarmsInStatus()).every((alarm) => alarm === undefined) ? true : undefined,
      );
    },
  );
}
