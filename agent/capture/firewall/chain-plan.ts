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

/** Of the rules that only a closed namespace has (`closed-rules.ts`), see {@link because}. */
export const closedPurpose = 'closed';

/** Whether rules, or a rule, let no connection begin. */
export function isClosing(rules: readonly string[]): boolean {
  return rules.some((rule) => rule.includes(because(closedPurpose)));
}

/**
 * An empty chain in the nat table of a workload's namespace, or in its mangle table while it is closed: the agent of the
 * host with this network namespace captured it. `culvert-agent remove` finds by it what no list names any more, and leaves
 * other agents' namespaces alone.
 */
export function hostMark(hostNetnsInode: number): string {
  return `${chainPrefix}HOST_${hostNetnsInode}`;
}

/** An empty chain in the IPv4 nat table: TCP early demultiplexing was on before Culvert, and goes on again with the rules. */
export const earlyDemuxMark = `${chainPrefix}EARLY_DEMUX`;

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
  /** Our chains; default: none. */
  readonly chains?: Readonly<Partial<Record<TableName, readonly string[]>>>;
  /** See {@link isClosing}; default: it is not. */
  readonly isClosed?: boolean;
  /** Tables to mark as created by us. */
  readonly absent: readonly TableName[];
  /** Empty chains for the nat table, or for mangle where that is not loaded: {@link hostMark}, {@link earlyDemuxMark}. */
  readonly marks?: readonly string[];
};

/**
 * Input for `iptables-restore --noflush` that puts the chains in place. Each step is one transaction: our chains are flushed
 * and filled; existing jumps are removed, with the first step of their table, and inserted first again; a chain of ours that is
 * not among `chains` goes with the last one. A namespace that is closed is opened last, when all else is in place.
 */
export function renderRestore(chains: readonly ChainPlan[], existing: ExistingTables): string {
  const lines: string[] = [];
  const markedTable = chains.some(({ table }) => table === 'nat') ? 'nat' : 'mangle';
  const steps = stepsOf(chains, existing);
  // Without it all is refused already, and nothing may get out before it is back.
  const hasNat = (existing.jumps.nat ?? []).some((jump) => hookOf(jump) === 'OUTPUT');
  for (const [index, { table, ours }] of steps.entries()) {
    const isFirst = !steps.slice(0, index).some((step) => step.table === table);
    const isLast = !steps.slice(index + 1).some((step) => step.table === table);
    const marks = table === markedTable && existing.marks !== undefined ? existing.marks : [];
    const kept = new Set([...namesIn(chains, table), ...marks, tableMarkerChain]);
    const stale = isLast ? (existing.chains?.[table] ?? []).filter((name) => !kept.has(name)) : [];
    const jumps = (existing.jumps[table] ?? []).filter((jump) =>
      isRefusal(table, jump) && !hasNat ? isLast : isFirst,
    );
    lines.push(`*${table}`, ...ours.map(({ chain }) => `:${chain} - [0:0]`));
    lines.push(...marks.map((name) => `:${name} - [0:0]`));
    if (isFirst && existing.absent.includes(table)) lines.push(`:${tableMarkerChain} - [0:0]`);
    lines.push(...jumps.map((jump) => jump.replace(/^-A /, '-D ')));
    lines.push(...stale.map((name) => `-F ${name}`), ...stale.map((name) => `-X ${name}`));
    for (const { hook, chain, jumpMatch } of ours) {
      lines.push(`-I ${hook} 1 ${jumpMatch} ${because('jump')} -j ${chain}`);
    }
    for (const { chain, rules } of ours) lines.push(...rules.map((rule) => `-A ${chain} ${rule}`));
    lines.push('COMMIT');
  }
  return `${lines.join('\n')}\n`;
}

type Step = { readonly table: TableName; readonly ours: readonly ChainPlan[] };

/**
 * In the order in which they are loaded, each with the chains of one table. What refuses comes after nat, and its jump goes
 * before, where there is nat: it is not to refuse what nat redirects no more, or not yet.
 */
function stepsOf(chains: readonly ChainPlan[], { isClosed = false, jumps }: ExistingTables): readonly Step[] {
  const [refusals, others] = [chains.filter(refusesAfterNat), chains.filter((chain) => !refusesAfterNat(chain))];
  const ofTable = (table: TableName): Step => ({ table, ours: others.filter((chain) => chain.table === table) });
  const last: Step = { table: 'filter', ours: refusals };
  const steps = isClosed
    ? [ofTable('raw'), ofTable('filter'), ofTable('nat'), last, ofTable('mangle')]
    : [...tableNames.map(ofTable), last];
  const isRefusing = refusals.length > 0 && (jumps.filter ?? []).length > 0;
  return steps.filter((step) => step.ours.length > 0 || (isRefusing && step.table === 'filter'));
}

function isRefusal(table: TableName, jump: string): boolean {
  return table === 'filter' && hookOf(jump) === 'OUTPUT';
}

/** Refuses what nat did not redirect (`unredirected-rules.ts`). */
function refusesAfterNat({ table, hook }: Pick<ChainPlan, 'table' | 'hook'>): boolean {
  return table === 'filter' && hook === 'OUTPUT';
}

/** The built-in chain of a jump, as `iptables-save` prints it. */
export function hookOf(jump: string): string {
  return jump.split(' ', 2)[1] ?? '';
}

function namesIn(chains: readonly ChainPlan[], table: TableName): readonly string[] {
  return chains.filter((chain) => chain.table === table).map(({ chain }) => chain);
}
