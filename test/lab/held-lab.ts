import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { CulvertError } from '../../shared/errors.js';
import { isAlive } from './lab-owner.js';
import type { LabState } from './lab-state.js';
import { readLabStates } from './lab-state.js';
import { tearDown } from './teardown.js';

/** A lab as the command line sees it, from outside the process that created it. */
export type LabStatus = 'held' | 'in use' | 'stale';

export function statusOf(state: LabState): LabStatus {
  if (state.owner === null) return 'held';
  return isAlive(state.owner) ? 'in use' : 'stale';
}

/** Throws `LAB_NAME`. */
export function findLab(prefix: string): LabState {
  const states = readLabStates();
  const found = states.find((state) => state.prefix === prefix);
  if (found !== undefined) return found;
  const hint = states.length === 0 ? 'npm run lab -- up' : `there are: ${states.map((s) => s.prefix).join(', ')}`;
  throw new CulvertError({ code: 'LAB_NAME', message: `There is no lab "${prefix}".`, hint });
}

/** Removes a held or stale lab. Throws `LAB_IN_USE` when its process still runs. */
export function removeLab(state: LabState): void {
  if (statusOf(state) === 'in use') {
    const message = `The lab ${state.prefix} belongs to process ${state.owner?.pid}, which still runs.`;
    throw new CulvertError({ code: 'LAB_IN_USE', message, hint: 'end that process, which removes its lab' });
  }
  tearDown(state);
}

/**
 * Runs a program in a node of a lab on this terminal and resolves to its exit code. The node is the name of a host, or a
 * workload's `name` or `name.namespace`. Throws `LAB_NAME`.
 */
export async function execInLab(state: LabState, nodeName: string, argv: readonly string[]): Promise<number> {
  const exact = state.nodes.filter((node) => node.netns === `${state.prefix}-${nodeName}`);
  const found = exact.length > 0 ? exact : state.nodes.filter((node) => node.name === nodeName);
  const [node] = found;
  if (node === undefined || found.length > 1) {
    const names = state.nodes.map(({ netns }) => netns.slice(state.prefix.length + 1)).join(', ');
    const message = `The lab ${state.prefix} has no single node "${nodeName}".`;
    throw new CulvertError({ code: 'LAB_NAME', message, hint: `its nodes: ${names}` });
  }
  const child = spawn('ip', ['netns', 'exec', node.netns, ...argv], { stdio: 'inherit' });
  const [code] = (await once(child, 'close')) as [number | null];
  return code ?? 1;
}
