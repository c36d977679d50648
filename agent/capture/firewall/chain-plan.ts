import { markMask } from '../../ports.js';

/** One of our chains: the built-in chain that jumps to it, and its rules in iptables syntax. */
export type ChainPlan = {
  readonly table: TableName;
  readonly hook: 'PREROUTING' | 'INPUT' | 'OUTPUT' | 'POSTROUTING';
  readonly chain: string;
  /** Protocol or other matches of the jump only. */
  readonly jumpMatch: string;
  readonly rules: readonly string[];
};

/**
 * In the order in which tables must be loaded: the rules for replies, and those that refuse what no listener of ours takes,
 * are in place before the first connection is redirected.
 */
export const tableNames = ['raw', 'mangle', 'filter', 'nat'] as const;
export type TableName = (typeof tableNames)[number];

/** Prefix of all our chains. Every chain with it is ours to remove. */
export const chainPrefix = 'CULVERT_';

/**
 * An empty chain that marks a table that did not exist before Culvert. It lets a restarted agent remove the table too
 * (nf_tables back end only).
 */
export const tableMarkerChain = `${chainPrefix}MADE_TABLE`;

/**
 * An empty chain in the nat table of a workload's namespace: the agent of the host with this network namespace captured
 * it. `culvert-agent remove` finds by it what no list names any more, and leaves other agents' namespaces alone.
 */
export function hostMark(hostNetnsInode: number): string {
  return `${chainPrefix}HOST_${hostNetnsInode}`;
}

/** Every rule has this comment, so that a reader of `iptables-save` sees whose it is and what it is for. */
export function because(why: string): string {
  return `-m comment --comment "culvert:${why}"`;
}

/** A mark of a packet or connection as iptables takes it, without the bits that other programs may use. */
export function maskedMark(mark: number): string {
  return `0x${mark.toString(16)}/0x${markMask.toString(16)}`;
}

/** What {@link renderRestore} must know about the existing tables. */
export type ExistingTables = {
  /** Jumps to our chains, as `iptables-save` prints them (`-A OUTPUT … -j CULVERT_OUTPUT`). */
  readonly jumps: Readonly<Partial<Record<TableName, readonly string[]>>>;
  /** Tables to mark as created by us. */
  readonly absent: readonly TableName[];
  /** {@link hostMark}, for a workload's namespace. */
  readonly hostMark?: string;
};

/**
 * Input for `iptables-restore --noflush` that puts the chains in place. Each table is replaced in one transaction: our
 * chains are flushed and filled; existing jumps are removed and inserted first again.
 */
export function renderRestore(chains: readonly ChainPlan[], existing: ExistingTables): string {
  const lines: string[] = [];
  for (const table of tableNames) {
    const ours = chains.filter((chain) => chain.table === table);
    if (ours.length === 0) continue;
    lines.push(`*${table}`, ...ours.map(({ chain }) => `:${chain} - [0:0]`));
    if (table === 'nat' && existing.hostMark !== undefined) lines.push(`:${existing.hostMark} - [0:0]`);
    if (existing.absent.includes(table)) lines.push(`:${tableMarkerChain} - [0:0]`);
    lines.push(...(existing.jumps[table] ?? []).map((jump) => jump.replace(/^-A /, '-D ')));
    for (const { hook, chain, jumpMatch } of ours) {
      lines.push(`-I ${hook} 1 ${jumpMatch} ${because('jump')} -j ${chain}`);
    }
    for (const { chain, rules } of ours) lines.push(...rules.map((rule) => `-A ${chain} ${rule}`));
    lines.push('COMMIT');
  }
  return `${lines.join('\n')}\n`;
}
