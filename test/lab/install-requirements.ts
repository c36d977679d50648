import { CulvertError } from '../../shared/errors.js';
import { runCommand } from './command.js';
import type { Requirement } from './declared-programs.js';
import { findInstalled, isMissing, missingError, packagesOf, systemDirectories } from './requirements.js';

export type EnsureOptions = {
  /** False: only report what is missing. */
  readonly install: boolean;
  /** Receives what is missing and what is installed. */
  readonly log: (line: string) => void;
  readonly requirements: readonly Requirement[];
};

/**
 * Ensures that every program of a list is installed. Throws `REQUIREMENT_MISSING` when a program is missing and may not or
 * cannot be installed, `INSTALL_FAILED` when apt-get failed. Services are neither started nor enabled.
 */
export async function ensureRequirements(options: EnsureOptions): Promise<void> {
  const find = (): Requirement[] => options.requirements.filter(isMissing);
  const missing = find();
  if (missing.length === 0) return;
  if (!options.install || process.getuid?.() !== 0 || findInstalled('apt-get') === null) throw missingError(missing);
  for (const { command, packages, why } of missing) options.log(`missing: ${command} (${why}): ${packages.join(', ')}`);
  options.log(`installing with apt-get: ${packagesOf(missing).join(' ')}`);
  await runApt(['update', '-q'], missing);
  await runApt(['install', '-q', '-y', '--no-install-recommends', ...packagesOf(missing)], missing);
  const still = find();
  if (still.length > 0) throw missingError(still);
  options.log('installed; no service was started or enabled');
}

/**
 * Installing a server package starts and enables the server. To prevent that, `true` is bind-mounted over the tools that do
 * so, in a private mount namespace of apt-get: no file changes and there is nothing to clean up.
 */
const withoutServices = `
for tool in /usr/sbin/invoke-rc.d /usr/sbin/update-rc.d /usr/bin/deb-systemd-invoke /usr/bin/deb-systemd-helper; do
  if [ -e "$tool" ]; then mount --bind "$(readlink -f /bin/true)" "$tool"; fi
done
exec apt-get "$@"
`;

async function runApt(args: readonly string[], missing: readonly Requirement[]): Promise<void> {
  const options = ['-o', 'Dpkg::Use-Pty=0', '-o', 'DPkg::Lock::Timeout=120'];
  const isolated = ['unshare', '--mount', '--propagation', 'private', 'sh', '-e', '-c', withoutServices, 'apt-get'];
  const { code, stdout, stderr } = await runCommand([...isolated, ...options, ...args], {
    timeoutMs: 600_000,
    // Scripts of packages start what they like.
    env: { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C', PATH: systemDirectories.join(':') },
  });
  if (code === 0) return;
  const tail = `${stdout}\n${stderr}`.trim().split('\n').slice(-8).join('\n');
  const { hint } = missingError(missing);
  const message = `apt-get ${args[0]} ended with code ${code}:\n${tail}`;
  throw new CulvertError({ code: 'INSTALL_FAILED', message, hint: `check the package sources, then: ${hint}` });
}
