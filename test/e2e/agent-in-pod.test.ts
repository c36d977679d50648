import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import type { ReadinessReport } from '../../agent/admin/readiness.js';
import { patientMs } from '../lab/patience.js';
import { hasHelpers, labUser, programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { removeCgroup } from '../support/agent/cgroups.js';
import { inPodContainer, podCapabilities, podCgroup } from '../support/agent/pod-container.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { ask, SteadyTraffic } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';

/** An agent as the first process of a container with few capabilities, as in a pod of Kubernetes, and one after another. */
type Kind = keyof typeof podCapabilities;

let mesh: EchoMesh;
const cgroups: string[] = [];

before(async () => {
  mesh = await EchoMesh.start({ agentArgs: ['--drain-timeout', '1s', '--privileges', 'whole'] });
});
after(async () => {
  await mesh[Symbol.asyncDispose]();
  for (const cgroup of cgroups) removeCgroup(cgroup);
});

function container(capabilities: readonly string[]): readonly string[] {
  const cgroup = podCgroup();
  cgroups.push(cgroup);
  return inPodContainer({ capabilities, writable: [mesh.lab.tempDir], cgroup });
}

/** Starts one next to the one that runs, as a rolling update does, and waits until that has ended. */
async function replacedBy(kind: Kind): Promise<void> {
  const node1 = mesh.agent('node1');
  const before = node1.process;
  const seen = loggedIn(node1.logFile, 'this agent took over').length;
  await using traffic = new SteadyTraffic({ from: mesh.client, target: mesh.toServer, lanes: 2, pauseMs: 10 });
  await waitUntil('traffic flows', () => (traffic.result.attempts > 20 ? true : undefined));
  await node1.start(['--privileges', kind], container(podCapabilities[kind]));
  await waitUntil('it took over', () => loggedIn(node1.logFile, 'this agent took over')[seen], 60_000);
  await node1.waitReady();
  await before.exited;
  const soFar = traffic.result.attempts;
  await waitUntil('traffic goes on', () => (traffic.result.attempts > soFar + 50 ? true : undefined), 30_000);
  assert.deepEqual((await traffic.stop()).failures, []);
}

type Status = { readonly name: string; readonly uid: number; readonly capabilities: readonly number[] };

/** The processes of the container, from outside. */
function processes(): readonly Status[] {
  const below = (pid: number): readonly number[] => {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
    return children.flatMap((child) => [child, ...below(child)]);
  };
  return below(mesh.agent('node1').process.pid).map((pid) => {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const [program = ''] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const of = (key: string): string => new RegExp(`^${key}:\\t(\\S+)`, 'm').exec(status)?.[1] ?? '';
    assert.equal(of('NoNewPrivs'), '1');
    const sets = ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'].map((key) => Number.parseInt(of(key), 16));
    return { name: path.basename(program), uid: Number(of('Uid')), capabilities: sets };
  });
}

/** NET_ADMIN and SYS_ADMIN. */
const acting = (1 << 12) | (1 << 21);
const expected: Readonly<Record<Kind, readonly Status[]>> = {
  // CHOWN and DAC_OVERRIDE.
  whole: [{ name: 'node', uid: 0, capabilities: [0, acting | 3, acting | 3, 0] }],
  split: [
    { name: 'node', uid: labUser.uid, capabilities: [0, 0, 0, 0] },
    { name: 'culvert-helper', uid: 0, capabilities: [0, acting, acting, 0] },
  ],
};

// Without a build that all can enter there is no helper to be had.
const turns: readonly Kind[] = hasHelpers ? ['whole', 'split', 'split', 'whole', 'split'] : ['whole', 'whole'];
for (const [turn, kind] of turns.entries()) {
  test(
    `in a container an agent that is ${kind} takes over, as number ${turn + 1}, and no connection fails`,
    { timeout: patientMs(120_000) },
    async () => {
      await replacedBy(kind);
      assert.deepEqual(processes(), expected[kind]);
      const node1 = mesh.agent('node1');
      const { degraded } = ((await node1.admin('/dump')) as { readonly readiness: ReadinessReport }).readiness;
      assert.deepEqual(
        // Its /proc/sys is read-only.
        degraded.filter(({ name }) => !name.startsWith('capture/')),
        [],
      );
      assert.deepEqual(
        degraded.filter(({ detail }) => detail.includes('cgroup')),
        [],
      );
      const owner = statSync(path.join(node1.stateDir, 'credentials.json')).uid;
      assert.equal(owner, kind === 'split' || turns.slice(0, turn).includes('split') ? labUser.uid : 0);
    },
  );
}

test('in a container the helper and its agent let a client through, by rule and with the address it has', async () => {
  const node1 = mesh.agent('node1');
  assert.equal(await ask(mesh.server, mesh.toClient), 'ok');
  const isIt = ({ direction, sourceWorkload }: AccessLogLine): boolean =>
    direction === 'inbound' && sourceWorkload === 'shop/server';
  assert.equal((await node1.waitForRecord('the connection', isIt)).reason, 'OK');
});

const lacking: readonly (readonly [kind: Kind, name: string])[] = [
  ['split', 'net_admin'],
  ['split', 'sys_admin'],
  ['split', 'setuid'],
  ['split', 'setgid'],
  ['split', 'chown'],
  ['split', 'dac_override'],
  ['whole', 'net_admin'],
  ['whole', 'sys_admin'],
];
for (const [kind, name] of lacking.filter(([kind]) => hasHelpers || kind === 'whole')) {
  test(`an agent that is to be ${kind} does not start without ${name.toUpperCase()}, and says where to add it`, async () => {
    const node1 = mesh.agent('node1');
    const running = node1.process;
    const within = container(podCapabilities[kind].filter((each) => each !== name));
    const flags = ['run', '--node', 'node1', '--privileges', kind, '--take-over', '--state-dir'];
    // Of root, as kubelet makes it; or of the agent's user with something of root in it.
    const stateDir = name === 'dac_override' ? node1.stateDir : path.join(mesh.lab.tempDir, 'of-root');
    const { code, stderr } = await node1.node.exec([...within, ...programs.agent, ...flags, stateDir]);
    assert.equal(code, 1, stderr);
    const says = `culvert-agent: the agent was started as root without ${name.toUpperCase()}: .*`;
    assert.match(stderr, new RegExp(`${says}add ${name.toUpperCase()} to securityContext.*\\[CAPABILITY_MISSING\\]`));
    assert.equal(running.hasExited, false);
    assert.equal(await ask(mesh.client, mesh.toServer), 'ok');
  });
}
