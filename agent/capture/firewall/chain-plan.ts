/** One of our chains: the built-in chain that jumps to it, and its rules in the spelling of iptables. */
export type ChainPlan = {
  readonly table: TableName;
  readonly hook: 'PREROUTING' | 'OUTPUT' | 'POSTROUTING';
  readonly chain: string;
  /** Protocol or other matches of the jump, and of nothing else. */
  readonly jumpMatch: string;
  readonly rules: readonly string[];
};

/** In the order in which tables must be loaded: what sends replies home is there before the first connection is taken. */
export const tableNames = ['raw', 'mangle', 'nat'] as const;
export type TableName = (typeof tableNames)[number];

/** Every chain of ours starts with it: what is found under it is ours to remove. */
export const chainPrefix = 'CULVERT_';

/**
 * An empty chain that says "this table did not exist before Culvert": with it, the removal after a restart of the agent
 * still knows that the table can go too (nf_tables back end only).
 */
export const tableMarkerChain = `${chainPrefix}MADE_TABLE`;

/** A comment of every rule, so that whoever finds it in `iptables-save` knows whose it is and what for. */
export function because(why: string): string {
  return `-m comment --comment "culvert:${why}"`;
}

/** What {@link renderRestore} has to know of the tables that are there. */
export type ExistingTables = {
  /** Jumps to our chains, as `iptables-save` prints them (`-A OUTPUT … -j CULVERT_OUTPUT`). */
  readonly jumps: Readonly<Partial<Record<TableName, readonly string[]>>>;
  /** Tables to mark as made by us. */
  readonly absent: readonly TableName[];
};

/**
 * The input for `iptables-restore --noflush` that puts the chains in place. Each table is replaced in one transaction:
 * our chains are emptied and filled, jumps that are there already are taken out and put first again.
 */
export function renderRestore(chains: readonly ChainPlan[], existing: ExistingTables): string {
  const lines: string[] = [];
  for (const table of tableNames) {
    const ours = chains.filter((chain) => chain.table === table);
    if (ours.length === 0) continue;
    lines.push(`*${table}`, ...ours.map(({ chain }) => `:${chain} - [0:0]`));
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
