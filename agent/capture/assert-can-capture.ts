import { CulvertError } from '../../shared/errors.js';
import { findMissingTools } from './firewall/command-runner.js';

/**
 * Checks for root and for the programs that capture runs. Throws CulvertError with one line that says what to install.
 */
export function assertCanCapture(): void {
  assertRoot('it works in the network namespaces of workloads');
  assertTools();
}

/** The same for a daemon: without root it asks a privileged helper, unless the settings say that it is one process. */
export function assertCanRun({ privileges }: { readonly privileges: 'split' | 'whole' }): void {
  if (privileges === 'whole') assertRoot('with "privileges: whole" it has no helper');
  assertTools();
}

function assertRoot(why: string): void {
  if (process.platform === 'linux' && process.geteuid?.() === 0) return;
  throw new CulvertError({
    code: 'NOT_ROOT',
    message: `the agent needs Linux and root, because ${why}`,
    hint: 'start it with sudo, or as the systemd unit',
  });
}

function assertTools(): void {
  const missing = findMissingTools();
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((tool) => tool.debianPackage))].join(' ');
  throw new CulvertError({
    code: 'TOOL_MISSING',
    message: `${missing.map((tool) => tool.command).join(', ')} is missing`,
    hint: `install it with: apt-get install ${packages}`,
  });
}
