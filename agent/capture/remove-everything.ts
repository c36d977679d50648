import { closeSync } from 'node:fs';
import { CulvertError, describeError } from '../../shared/errors.js';
import { openNetns, ownNetnsInode } from '../native/netns.js';
import { CommandRunner } from './firewall/command-runner.js';
import { hostHooks } from './host-capture.js';
import { workloadHooks } from './namespace-capture.js';
import { detectBackend, type NetfilterBackend } from './firewall/netfilter-backend.js';
import type { Hooks } from './firewall/removal.js';
import { RuleSet } from './firewall/rule-set.js';

export type RemovedPlace = {
  /** Path of the namespace, or `host`. */
  readonly place: string;
  /** Null: nothing of Culvert is left there. A namespace that is gone counts as clean. */
  readonly problem: string | null;
};

/**
 * Removes Culvert's rules from the given namespaces and from the host, for `culvert-agent remove` and for a supervisor
 * that fails open. Works without a running agent and without knowing what it had loaded. A failure in one place does
 * not stop the others. Throws `CAPTURE_TOOL` only if iptables cannot be run at all.
 */
export async function removeEverything(o: { readonly netnsPaths: readonly string[] }): Promise<RemovedPlace[]> {
  const runner = new CommandRunner({ maxParallel: 4 });
  const backend = await detectBackend(runner);
  return await Promise.all([
    ...[...new Set(o.netnsPaths)].map((path) => removeFromNamespace(runner, backend, path)),
    attempt('host', () => removeRules(runner, backend, null, hostHooks)),
  ]);
}

async function removeFromNamespace(
  runner: CommandRunner,
  backend: NetfilterBackend,
  path: string,
): Promise<RemovedPlace> {
  return await attempt(path, async () => {
    let netns: { fd: number; inode: number };
    try {
      netns = openNetns(path);
    } catch (error) {
      // The rules went with the namespace. EINVAL: only the file that named it is left.
      if (error instanceof CulvertError && (error.code === 'ENOENT' || error.code === 'EINVAL')) return;
      throw error;
    }
    try {
      if (netns.inode !== ownNetnsInode()) await removeRules(runner, backend, netns.fd, workloadHooks);
    } finally {
      closeSync(netns.fd);
    }
  });
}

async function removeRules(
  runner: CommandRunner,
  backend: NetfilterBackend,
  fd: number | null,
  hooks: Hooks,
): Promise<void> {
  const rules = new RuleSet({ runner, backend, hasRoutes: fd !== null, hooks });
  await rules.remove(fd);
  const left = await rules.leftovers(fd);
  if (left.length === 0) return;
  throw new CulvertError({
    code: 'CAPTURE_RULES',
    message: `still there after the removal: ${left.join(', ')}`,
    hint: 'does another program load rules at the same time, or an agent run?',
  });
}

async function attempt(place: string, step: () => Promise<void>): Promise<RemovedPlace> {
  try {
    await step();
    return { place, problem: null };
  } catch (error) {
    return { place, problem: describeError(error) };
  }
}
