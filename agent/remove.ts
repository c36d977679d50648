import { CulvertError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { CommandRunner } from './capture/firewall/command-runner.js';
import { detectBackend } from './capture/firewall/netfilter-backend.js';
import { removeOwnCgroup } from './capture/own-cgroup.js';
import { findCapturedNamespaces, isServed } from './capture/host-namespaces.js';
import { removeEverything } from './capture/remove-everything.js';
import { StateDirectory } from './control/state/state-directory.js';
import { type CniDirectories, takeOutCniPlugin } from './native/cni-installer.js';
import { findRunningAgent } from './control/succession/predecessor.js';

/** What is left on this host after `culvert-agent remove`: its exit code. */
const removeExitCodes = { nothingLeft: 0, somethingLeft: 1, agentRuns: 2 } as const;

export type Removal = {
  readonly exitCode: (typeof removeExitCodes)[keyof typeof removeExitCodes];
  readonly removed: readonly string[];
  /** What is wrong and what to do; null: nothing. */
  readonly problem: string | null;
};

/**
 * Removes capture from the namespaces that the state directory lists, from every other one on this host that has it, from
 * the given ones, and from the host itself. Refuses while an agent runs, because that one would load the rules again. If
 * something stayed, the list is kept, so the command can be repeated.
 */
export async function removeCapture(o: {
  readonly stateDir: string;
  readonly netnsPaths: readonly string[];
  /** Where the CNI plugin is in the chain; null: nowhere. */
  readonly cni: CniDirectories | null;
  readonly log: Log;
}): Promise<Removal> {
  const directory = new StateDirectory({ path: o.stateDir });
  const { namespaces } = await directory.readCaptured(o.log);
  const runner = new CommandRunner({ maxParallel: 4 });
  const tools = { runner, backend: await detectBackend(runner) };
  const found = await findCapturedNamespaces(tools);
  const paths = [...namespaces.map(({ netnsPath }) => netnsPath), ...found.map(({ path }) => path), ...o.netnsPaths];
  const running = await whatRuns(o.stateDir, paths);
  if (running !== null) return { exitCode: removeExitCodes.agentRuns, removed: [], problem: running };

  // First: a pod that starts meanwhile would wait for an agent.
  const leftOfCni = o.cni === null ? null : takeOutCniPlugin(o.cni);
  const places = await removeEverything({ netnsPaths: paths });
  const kept = places.flatMap(({ place, problem }) => (problem === null ? [] : [`${place}: ${problem}`]));
  // Captured after the first look, or loaded again.
  const missed = (await findCapturedNamespaces(tools))
    .filter(({ path }) => !kept.some((line) => line.startsWith(`${path}: `)))
    .map(({ path }) => `${path}: it has rules of capture`);
  const left = [...kept, ...missed, ...(leftOfCni === null ? [] : [`the CNI plugin: ${leftOfCni}`])];
  const removed = places.filter(({ problem, hadRules }) => problem === null && hadRules).map(({ place }) => place);
  if (left.length > 0) {
    const problem = new CulvertError({
      code: 'REMOVE_INCOMPLETE',
      message: `capture is still in place: ${left.join('; ')}`,
      hint: 'fix the problems named and run "culvert-agent remove" again',
    });
    return { exitCode: removeExitCodes.somethingLeft, removed, problem: lineOf(problem) };
  }
  if (namespaces.length > 0) await directory.captured.write({ namespaces: [] });
  removeOwnCgroup();
  return { exitCode: removeExitCodes.nothingLeft, removed, problem: null };
}

/** Why nothing may be removed: an agent of this state directory, or of another one that serves these namespaces. */
async function whatRuns(stateDir: string, paths: readonly string[]): Promise<string | null> {
  const agent = findRunningAgent(stateDir);
  const served = agent === null ? await firstServed(paths) : null;
  if (agent === null && served === null) return null;
  return lineOf(
    new CulvertError({
      code: 'AGENT_RUNS',
      message:
        agent === null
          ? `an agent runs: it listens in ${served}`
          : `the agent runs (pid ${agent.pid}) and would load the rules again; nothing was removed`,
      hint: 'stop it first, with its supervisor: systemctl stop culvert-agent',
    }),
  );
}

async function firstServed(paths: readonly string[]): Promise<string | null> {
  for (const path of new Set(paths)) if (await isServed(path)) return path;
  return null;
}

function lineOf(error: CulvertError): string {
  return `${error.message} (${error.hint}) [${error.code}]`;
}
