import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from './command.js';
import { removeOwnCgroup } from '../../agent/capture/own-cgroup.js';
import { readLabStates } from './lab-state.js';
import { findCommand } from './requirements.js';
import { netnsConfigDirectory, tearDown } from './teardown.js';
import { processesOfRun } from './test-processes.js';

/** One line per item on this machine that a test could leave behind: `namespace cv12ab-web.shop`, … */
export type Inventory = ReadonlySet<string>;

export type LeakScope = {
  /** The value of CULVERT_TEST_RUN that the tests ran with. */
  readonly testRun: string;
  /** The tests' TMPDIR, which must be empty at the end. */
  readonly tempDir: string;
  /**
   * True: every new item counts, for machines without other users (CI). False: only items that certainly belong to Culvert
   * or a lab, since other programs may create namespaces and rules at the same time.
   */
  readonly isStrict: boolean;
  /** False: the tests need no root and make no lab, so only processes and temporary files are looked for. */
  readonly hasLabs: boolean;
};

/** The current items; taken before and after the tests. */
export async function takeInventory(scope: LeakScope): Promise<Inventory> {
  const own = [
    ...processesOfRun(scope.testRun).map(({ pid, command }) => `process ${pid}: ${command}`),
    ...list(scope.tempDir).map((name) => `temporary file ${path.join(scope.tempDir, name)}`),
    ...mountsIn(scope.tempDir).map((at) => `mount ${at}`),
  ];
  return new Set(scope.hasLabs ? [...own, ...(await machineState(scope))] : own);
}

async function machineState(scope: LeakScope): Promise<string[]> {
  const states = readLabStates();
  // Another process owns this lab and will remove it.
  const foreign = new Set(states.filter((s) => s.testRun !== scope.testRun).flatMap((s) => s.namespaces));
  const isCounted = (name: string): boolean => {
    return !foreign.has(name) && (scope.isStrict || /^cv[0-9a-f]{4}-/.test(name));
  };
  return [
    ...states.filter((s) => s.testRun === scope.testRun).map((s) => `lab ${s.prefix}`),
    ...list('/run/netns')
      .filter(isCounted)
      .map((name) => `namespace ${name}`),
    ...list(netnsConfigDirectory)
      .filter(isCounted)
      .map((name) => `directory ${netnsConfigDirectory}/${name}`),
    ...(scope.isStrict ? list('/sys/class/net').map((name) => `interface ${name}`) : []),
    ...(await machineRules(scope)),
  ];
}

/**
 * The items that are new since `before`. Processes that are just ending get two seconds.
 */
export async function findLeaks(before: Inventory, scope: LeakScope): Promise<string[]> {
  const deadline = Date.now() + 2000;
  for (;;) {
    const now = await takeInventory(scope);
    const leaks = [...now].filter((line) => !before.has(line));
    if (leaks.length === 0 || Date.now() > deadline) return leaks;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * Removes what tests of this run left: processes, labs, mounts and temporary files, and the cgroup of agents when no other run
 * has one in it. The machine's rules are only reported.
 */
export function removeLeaks(scope: LeakScope): void {
  for (const { pid } of processesOfRun(scope.testRun)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }
  const states = scope.hasLabs ? readLabStates() : [];
  for (const state of states.filter((s) => s.testRun === scope.testRun)) tearDown(state);
  // The folder is removed without what others mounted there: that may be a folder of the machine.
  for (const at of mountsIn(scope.tempDir)) execFileSync('umount', ['--lazy', at]);
  rmSync(scope.tempDir, { recursive: true, force: true });
  removeOwnCgroup();
}

/** Where something is mounted below a folder, the last mounted first. */
function mountsIn(directory: string): string[] {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '');
  return points.filter((point) => point.startsWith(`${directory}/`)).toReversed();
}

/** The machine's own packet filter and policy routing, which no test may touch. Without counters and comments. */
async function machineRules(scope: LeakScope): Promise<string[]> {
  const commands = [['iptables-save'], ['ip6tables-save'], ['ip', 'rule'], ['ip', '-6', 'rule']];
  const lines: string[] = [];
  for (const command of commands) {
    if (findCommand(command[0] ?? '') === null) continue;
    const { stdout } = await runCommand(command);
    const rules = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    lines.push(...rules.map((line) => `${command.join(' ')}: ${line.replaceAll(/\[\d+:\d+\]/g, '').trim()}`));
  }
  return lines.filter((line) => scope.isStrict || /culvert|0x539|0x111/i.test(line));
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
