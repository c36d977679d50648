import { readProcFile } from '../../native/addon.js';
import { foundTables } from '../../native/nf-tables.js';
import { type InstalledRules, ownLines } from './installed-rules.js';
import type { NetfilterBackend } from './netfilter-backend.js';

/**
 * Whether something other than capture may use connection tracking in a namespace, such as the NAT rules of a name server:
 * any rule of others in iptables, any table of nftables that iptables does not show, and any of the other back end.
 */
export function isTrackedByOthers(o: {
  readonly netnsFd: number;
  readonly backend: NetfilterBackend;
  readonly found: InstalledRules;
}): boolean {
  const hasForeignRule = [o.found[4], o.found[6]].some(({ tables }) =>
    [...tables.values()].some((table) => table.rules.length > ownLines(table).length),
  );
  if (hasForeignRule || o.found.hasUnreadable) return true;
  try {
    const tables = foundTables(o.netnsFd);
    if (o.backend.kind === 'legacy') return tables !== 'none';
    return tables === 'others' || hasLegacyTables(o.netnsFd);
  } catch {
    return true;
  }
}

function hasLegacyTables(netnsFd: number): boolean {
  return ['ip_tables_names', 'ip6_tables_names'].some((name) => {
    try {
      return readProcFile({ netnsFd, path: `/proc/thread-self/net/${name}` }) !== '';
    } catch {
      // The kernel has none.
      return false;
    }
  });
}
