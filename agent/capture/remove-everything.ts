import { closeSync } from 'node:fs';
import { CulvertError, describeError } from '../../shared/errors.js';
import { openNetns, ownNetnsInode } from '../native/netns.js';
import { CommandRunner } from './firewall/command-runner.js';
import { hostRuleSet } from './host-capture.js';
import { workloadHooks } from './namespace-capture.js';
import { waitForLastWords } from './open-connections.js';
import { detectBackend, type NetfilterBackend } from './firewall/netfilter-backend.js';
import { RuleSet } from './firewall/rule-set.js';

export type RemovedPlace = {
  /** Path of the namespace, or `host`. */
  readonly place: string;
  /** Null: nothing of Culvert is left there. A namespace that is gone counts as clean. */
  readonly problem: string | null;
  /** Whether there was something to remove. */
  readonly hadRules: boolean;
};

/**
 * Removes Culvert's rules from the given namespaces and from the host, for `culvert-agent remove` and for a supervisor
 * that fails open. Works without a running agent and without knowing what it had loaded. A failure in one place does
 * not stop the others. `keepsHost`: an agent that runs has the host's rules. Throws `CAPTURE_TOOL` only if iptables cannot be
 * run at all.
 */
export async function removeEverything(o: {
  readonly netnsPaths: readonly string[];
  readonly keepsHost?: boolean;
}): Promise<RemovedPlace[]> {
  const runner = new CommandRunner({ maxParallel: 4 });
  const backend = await detectBackend(runner);
  return await Promise.all([
    ...[...new Set(o.netnsPaths)].map((path) => removeFromNamespace(runner, backend, path)),
    ...(o.keepsHost === true ? [] : [attempt('host', () => removeFromHost(runner, backend))]),
  ]);
}

async function removeFromHost(runner: CommandRunner, backend: NetfilterBackend): Promise<boolean> {
  const { rules } = await hostRuleSet({ runner, backend, netnsFd: null });
  return await removeRules(rules, null);
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
      if (error instanceof CulvertError && (error.code === 'ENOENT' || error.code === 'EINVAL')) return false;
      throw error;
    }
    try {
      if (netns.inode === ownNetnsInode()) return false;
      const rules = new RuleSet({ runner, backend, hasRoutes: true, hooks: workloadHooks });
      await rules.removeRedirects(netns.fd);
      await waitForLastWords(runner, netns.fd);
      return await removeRules(rules, netns.fd);
    } finally {
      closeSync(netns.fd);
    }
  });
}

/** Resolves to whether there was something to remove. */
async function removeRules(rules: RuleSet, fd: number | null): Promise<boolean> {
  const hadRules = (await rules.leftovers(fd)).length > 0;
  await rules.remove(fd);
  const left = await rules.leftovers(fd);
  if (left.length === 0) return hadRules;
  throw new CulvertError({
    code: 'CAPTURE_RULES',
    message: `still there after the removal: ${left.join(', ')}`,
    hint: 'does another program load rules at the same time, or an agent run?',
  });
}

async function attempt(place: string, step: () => Promise<boolean>): Promise<RemovedPlace> {
  try {
    return { place, problem: null, hadRules: await step() };
  } catch (error) {
    return { place, problem: describeError(error), hadRules: true };
  }
}
