import { transparentRulePriority } from './workload-rules.js';
import { transparentReplyMark, transparentReplyTable } from '../../ports.js';
import {
  because,
  chainPrefix,
  type ExistingTables,
  isClosing,
  tableMarkerChain,
  type TableName,
  tableNames,
} from './chain-plan.js';
import type { Ipv6Support } from './captured-netns.js';
import { earlyDemuxPath } from '../../native/early-demux.js';
import type { CommandRunner } from './command-runner.js';
import type { NetfilterBackend } from './netfilter-backend.js';

/** One table as printed by `iptables-save`. */
export type SavedTable = {
  /** Name → policy (`ACCEPT`, `DROP`, `-` for user chains). */
  readonly chains: ReadonlyMap<string, string>;
  /** `-A …` lines, in order. */
  readonly rules: readonly string[];
};

export type SavedTables = ReadonlyMap<string, SavedTable>;

export type InstalledFamily = {
  readonly tables: SavedTables;
  readonly hasRule: boolean;
  readonly hasRoute: boolean;
};

/** What is installed in a namespace now, by us and by others. */
export type InstalledRules = {
  readonly 4: InstalledFamily;
  readonly 6: InstalledFamily;
  readonly ipv6: Ipv6Support;
  /** TCP early demultiplexing, of both families. */
  readonly hasEarlyDemux: boolean;
  /** iptables said that it cannot show a table of nftables with one of its names. */
  readonly hasUnreadable: boolean;
};

/**
 * One shell and as few programs as possible, because starting each costs more than its work. The privileged helper runs exactly
 * this script (agent/native/helper/rule-programs.c).
 */
function readScript({ iptables }: NetfilterBackend): string {
  // -force: a routing table that does not exist yet is not an error.
  const ip = (family: 4 | 6): string =>
    `ip -force -j -${family} -batch - 2>/dev/null <<E\nrule show\nroute show table ${transparentReplyTable}\nE`;
  return [
    `echo @tables4; ${iptables[4]}-save || exit 90`,
    `echo @ip4\n${ip(4)}`,
    // It fails at the end of the file, which has no line end for a shell that reads byte by byte.
    `demux=; read demux <${earlyDemuxPath}; echo; echo @demux; echo $demux`,
    'test -e /proc/net/if_inet6 || exit 0',
    'read lo6 </proc/sys/net/ipv6/conf/lo/disable_ipv6; echo; echo @lo6; echo $lo6',
    `echo @tables6; ${iptables[6]}-save || exit 91`,
    `echo @ip6\n${ip(6)}`,
    'exit 0',
  ].join('\n');
}

/** Reads the state of a namespace. Throws `CAPTURE_RULES` or `CAPTURE_TOOL`. */
export async function readInstalled(o: {
  runner: CommandRunner;
  backend: NetfilterBackend;
  netnsFd: number | null;
}): Promise<InstalledRules> {
  const text = await o.runner.must({ argv: ['sh', '-c', readScript(o.backend)], netnsFd: o.netnsFd });
  return parseInstalled(text);
}

/** Exported for tests: `text` is what {@link readScript} prints. */
export function parseInstalled(text: string): InstalledRules {
  const sections = new Map<string, string>();
  for (const part of text.split(/^@/m).slice(1)) {
    const end = part.indexOf('\n');
    sections.set(part.slice(0, end), part.slice(end + 1));
  }
  const family = (suffix: 4 | 6): InstalledFamily => ({
    tables: parseSave(sections.get(`tables${suffix}`) ?? ''),
    ...parseRoutes(sections.get(`ip${suffix}`) ?? ''),
  });
  const lo6 = sections.get('lo6')?.trim();
  return {
    4: family(4),
    6: family(6),
    ipv6: lo6 === undefined ? 'absent' : lo6 === '0' ? 'on' : 'disabled',
    hasEarlyDemux: sections.get('demux')?.trim() === '1',
    hasUnreadable: text.includes(' is incompatible, use '),
  };
}

/** `text`: a JSON array of rules and one of routes, each on its own line. */
function parseRoutes(text: string): { hasRule: boolean; hasRoute: boolean } {
  const entries = text
    .split('\n')
    .filter((line) => line.startsWith('[{'))
    .flatMap((line) => JSON.parse(line) as { priority?: number; fwmark?: string; type?: string; dev?: string }[]);
  return {
    hasRule: entries.some(
      ({ priority, fwmark }) => priority === transparentRulePriority && Number(fwmark) === transparentReplyMark,
    ),
    hasRoute: entries.some(({ type, dev }) => type === 'local' && dev === 'lo'),
  };
}

/** Parses the output of `iptables-save`. */
export function parseSave(text: string): SavedTables {
  const tables = new Map<string, { chains: Map<string, string>; rules: string[] }>();
  let current = { chains: new Map<string, string>(), rules: [] as string[] };
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      current = { chains: new Map(), rules: [] };
      tables.set(line.slice(1).trim(), current);
    } else if (line.startsWith(':')) {
      const [name = '', policy = '-'] = line.slice(1).split(' ');
      current.chains.set(name, policy);
    } else if (line.startsWith('-A ')) {
      current.rules.push(line);
    }
  }
  return tables;
}

/** The lines of a table that are ours: rules of our chains, and jumps to them. */
export function ownLines(table: SavedTable | undefined): readonly string[] {
  return (table?.rules ?? []).filter((line) => line.startsWith(`-A ${chainPrefix}`) || isJump(line));
}

export function ownJumps(table: SavedTable | undefined): readonly string[] {
  return (table?.rules ?? []).filter((line) => isJump(line) && !line.startsWith(`-A ${chainPrefix}`));
}

/** Foreign rules before a jump of ours in the same built-in chain, which therefore decide first. */
export function rulesBeforeOwnJumps(table: SavedTable | undefined): readonly string[] {
  const rules = table?.rules ?? [];
  const chainOf = (line: string): string => line.split(' ', 2)[1] ?? '';
  const lastJump = new Map(ownJumps(table).map((jump) => [chainOf(jump), rules.indexOf(jump)]));
  return rules.filter((line, index) => !isJump(line) && index < (lastJump.get(chainOf(line)) ?? 0));
}

export function ownChains(table: SavedTable | undefined): readonly string[] {
  return [...(table?.chains.keys() ?? [])].filter((name) => name.startsWith(chainPrefix));
}

function isJump(line: string): boolean {
  return line.includes(` -j ${chainPrefix}`);
}

/**
 * What `renderRestore` must know about a family. A marked table keeps its mark, because chains that are not named stay.
 */
export function existingTables(tables: SavedTables, backend: NetfilterBackend): ExistingTables {
  const jumps: Partial<Record<TableName, readonly string[]>> = {};
  const chains: Partial<Record<TableName, readonly string[]>> = {};
  for (const name of tableNames) {
    jumps[name] = ownJumps(tables.get(name));
    chains[name] = ownChains(tables.get(name));
  }
  const absent = backend.kind === 'nft' ? tableNames.filter((name) => !tables.has(name)) : [];
  return { jumps, chains, isClosed: isClosing(tables.get('mangle')?.rules ?? []), absent };
}

/** Whether our rules are there that let no new connection of the workload pass by the agent, in each family that it has. */
export function isRuled(installed: InstalledRules): boolean {
  return ([4, 6] as const)
    .filter((family) => family === 4 || installed.ipv6 === 'on')
    .every((family) => {
      const { tables } = installed[family];
      const isRedirected = ownLines(tables.get('nat')).some((line) => line.includes(because('outbound')));
      const isJumpedTo = ownJumps(tables.get('nat')).some((line) => line.startsWith('-A OUTPUT '));
      return (isRedirected && isJumpedTo) || isClosing(tables.get('mangle')?.rules ?? []);
    });
}

/** Whether we created the table, so that removing our rules includes it. */
export function isOwnTable(table: SavedTable | undefined): boolean {
  return table?.chains.has(tableMarkerChain) ?? false;
}
