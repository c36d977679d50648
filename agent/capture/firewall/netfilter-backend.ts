import { readFileSync } from 'node:fs';
import { findProgram } from '../../../shared/program-path.js';
import type { CommandRunner, IptablesProgram } from './command-runner.js';

/** Which iptables is used. Every program on a host should use the same one, so that its tools show all rules. */
export type NetfilterBackend = {
  readonly kind: 'nft' | 'legacy';
  readonly iptables: Readonly<Record<4 | 6, IptablesProgram>>;
};

/**
 * Finds the back end that this host uses: the default one (`iptables -V`), unless legacy tables are already in use and
 * the default has no rules at all. Never runs iptables-legacy, which would create the tables that it is asked for.
 */
export async function detectBackend(runner: CommandRunner): Promise<NetfilterBackend> {
  const version = await runner.must({ argv: ['iptables', '-V'], netnsFd: null });
  if (!version.includes('nf_tables')) return backend('legacy', '');
  const isLegacyInUse = readNames('/proc/net/ip_tables_names') || readNames('/proc/net/ip6_tables_names');
  if (!isLegacyInUse || findProgram('iptables-legacy-restore') === null) return backend('nft', '');
  const saved = await runner.must({ argv: ['iptables-save'], netnsFd: null });
  return /^-A /m.test(saved) ? backend('nft', '') : backend('legacy', '-legacy');
}

function backend(kind: 'nft' | 'legacy', suffix: '' | '-legacy'): NetfilterBackend {
  return { kind, iptables: { 4: `iptables${suffix}`, 6: `ip6tables${suffix}` } };
}

/** True if the kernel lists any legacy table in this namespace. */
function readNames(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').trim() !== '';
  } catch {
    return false;
  }
}
