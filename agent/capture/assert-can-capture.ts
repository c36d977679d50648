import { CulvertError } from '../../shared/errors.js';
import { findMissingTools } from './firewall/command-runner.js';

/**
 * Checks for root and for the programs that capture runs. Throws CulvertError with one line that says what to install.
 */
export function assertCanCapture(): void {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new CulvertError({
      code: 'NOT_ROOT',
      message: 'the agent needs Linux and root, because it works in the network namespaces of workloads',
      hint: 'start it with sudo, or as the systemd unit',
    });
  }
  const missing = findMissingTools();
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((tool) => tool.debianPackage))].join(' ');
  throw new CulvertError({
    code: 'TOOL_MISSING',
    message: `${missing.map((tool) => tool.command).join(', ')} is missing`,
    hint: `install it with: apt-get install ${packages}`,
  });
}
