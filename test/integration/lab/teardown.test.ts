import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import type { Lab } from '../../lab/lab.js';
import { createLab } from '../../lab/lab.js';
import { foldersOfCgroup, makeCgroup } from '../../lab/lab-cgroups.js';
import { readLabStates } from '../../lab/lab-state.js';
import { removeLab, statusOf } from '../../lab/held-lab.js';
import { processesIn, sweepStaleLabs } from '../../lab/teardown.js';
import type { LabTopology } from '../../lab/topology.js';
import { patientMs } from '../../lab/patience.js';

const topology: LabTopology = {
  hosts: [{ name: 'node1', workloads: [{ name: 'web', namespace: 'shop', serviceAccount: 'web' }] }],
};
const labModule = new URL('../../lab/lab.js', import.meta.url).href;

describe('taking a lab down', { timeout: patientMs(60_000) }, () => {
  it('leaves nothing behind, not even a daemon that ignores signals', async () => {
    const interfaces = readdirSync('/sys/class/net');
    const lab = await createLab(topology);
    const web = lab.workload('web');
    // setsid: it has left the process group that the lab started.
    const script = 'trap "" TERM INT HUP; echo ready; while :; do sleep 60; done';
    const starter = await web.spawn(['setsid', '--fork', 'bash', '-c', script]);
    await starter.waitForLine(/ready/);
    const server = await web.listen({}, () => {});
    const socket = await lab.host('node1').connect({ ip: web.ipv4, port: server.port });
    const { ipv4, port } = { ipv4: web.ipv4, port: server.port };
    const [daemon = 0] = processesIn([web.netns]);
    assert.ok(daemon > 0);
    await lab.close();
    assertGone(lab.prefix, lab.tempDir);
    assert.ok(!isRunning(daemon), 'the daemon still runs');
    assert.ok(socket.destroyed);
    await assert.rejects(web.connect({ ip: ipv4, port }), { code: 'LAB_CLOSED' });
    assert.deepEqual(readdirSync('/sys/class/net'), interfaces);
  });

  it('takes the cgroups along that have the name of a namespace, with those below', async () => {
    const lab = await createLab(topology);
    const { netns } = lab.host('node1');
    for (const name of [netns, `${netns}/pods`, `${netns}/pods/one`]) makeCgroup(name);
    assert.ok(foldersOfCgroup(netns).length > 0);
    await lab.close();
    assert.deepEqual(foldersOfCgroup(netns), []);
  });

  it('can be asked for twice', async () => {
    const lab = await createLab(topology);
    await Promise.all([lab.close(), lab.close()]);
    await lab.close();
    assertGone(lab.prefix, lab.tempDir);
  });

  it('happens when building it fails', async () => {
    const known = new Set(readLabStates().map((state) => state.prefix));
    // Below the smallest MTU of IPv6 the kernel gives an interface no IPv6 address.
    await assert.rejects(createLab({ ...topology, mtu: 1000 }), { code: 'COMMAND_FAILED' });
    const mine = readLabStates().filter((state) => !known.has(state.prefix) && state.owner?.pid === process.pid);
    assert.deepEqual(mine, []);
  });

  const ends: readonly [what: string, code: string, signal: NodeJS.Signals | null][] = [
    ['gets SIGTERM', '', 'SIGTERM'],
    ['gets SIGINT', '', 'SIGINT'],
    ['throws an uncaught exception', 'setImmediate(() => { throw new Error("boom"); });', null],
    ['calls process.exit', 'process.exit(3);', null],
    ['comes to the end of its program', 'clearInterval(busy);', null],
  ];
  for (const [what, code, signal] of ends) {
    it(`happens when the process that owns it ${what}`, async () => {
      const owner = await startOwner(code);
      if (signal !== null) owner.child.kill(signal);
      await owner.exited;
      if (signal !== null) assert.equal(owner.child.signalCode, signal);
      assertGone(owner.prefix, owner.tempDir);
    });
  }

  it('is done by the next lab, or a sweep, when the owner was killed', async () => {
    const owner = await startOwner('');
    owner.child.kill('SIGKILL');
    await owner.exited;
    sweepStaleLabs();
    assertGone(owner.prefix, owner.tempDir);
  });

  it('is not done by a sweep to a lab that is in use or held', async () => {
    await using inUse = await createLab(topology);
    const held = await createLab(topology, { isHeld: true });
    try {
      assert.deepEqual([statusOfLab(inUse), statusOfLab(held)], ['in use', 'held']);
      const swept = sweepStaleLabs();
      assert.ok(!swept.includes(inUse.prefix) && !swept.includes(held.prefix));
      assert.equal((await inUse.workload('web').exec(['true'])).code, 0);
      assert.equal((await held.workload('web').exec(['true'])).code, 0);
      const state = readLabStates().find(({ prefix }) => prefix === inUse.prefix);
      assert.ok(state !== undefined);
      assert.throws(() => removeLab(state), { code: 'LAB_IN_USE' });
    } finally {
      await held.close();
    }
    assertGone(held.prefix, held.tempDir);
  });
});

function statusOfLab(lab: Lab): string | undefined {
  const state = readLabStates().find(({ prefix }) => prefix === lab.prefix);
  return state === undefined ? undefined : statusOf(state);
}

/** A zombie that its new parent has not noticed yet does not run. */
function isRunning(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return false;
  return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}

function assertGone(prefix: string, tempDir: string): void {
  const left = [...list('/run/netns'), ...list('/etc/netns'), ...list('/run/culvert-lab')];
  assert.deepEqual(
    left.filter((name) => name.startsWith(prefix)),
    [],
  );
  assert.ok(!existsSync(tempDir), tempDir);
}

function list(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).map((name) => path.basename(name)) : [];
}

type Owner = {
  readonly child: ReturnType<typeof spawn>;
  readonly prefix: string;
  readonly tempDir: string;
  readonly exited: Promise<unknown>;
};

/** A process of its own that makes a lab, says so, runs `code`, and otherwise lives on. */
async function startOwner(code: string): Promise<Owner> {
  const program = `
    import { createLab } from ${JSON.stringify(labModule)};
    const lab = await createLab(${JSON.stringify(topology)});
    const busy = setInterval(() => {}, 1000);
    console.log(JSON.stringify({ prefix: lab.prefix, tempDir: lab.tempDir }));
    ${code}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const exited = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout })) {
    return { child, exited, ...(JSON.parse(line) as { prefix: string; tempDir: string }) };
  }
  throw new Error('the owner ended before it had a lab');
}
