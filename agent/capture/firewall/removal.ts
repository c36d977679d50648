import { deleteEmptyTable } from '../../native/nf-tables.js';
import { type ChainPlan, chainPrefix, hookOf, isClosing, type TableName, tableNames } from './chain-plan.js';
import type { CaptureProgram, CommandRunner } from './command-runner.js';
import {
  type InstalledFamily,
  isOwnTable,
  ownChains,
  ownJumps,
  ownLines,
  parseSave,
  type SavedTables,
} from './installed-rules.js';
import { isSynQueueRule } from './late-accept-rules.js';
import type { NetfilterBackend } from './netfilter-backend.js';
import { ipRoute, ipRule } from './workload-rules.js';

/** One address family of one namespace. `netnsFd` null: the host's namespace. */
export type Place = {
  readonly runner: CommandRunner;
  readonly backend: NetfilterBackend;
  readonly netnsFd: number | null;
  readonly family: 4 | 6;
};

/** Where our jumps are: the built-in chains of each table that may exist because of us. */
export type Hooks = readonly Pick<ChainPlan, 'table' | 'hook'>[];

/**
 * Input for `iptables-restore --noflush` that removes our jumps and chains; empty if there are none. With
 * `emptiedHooks` it also removes the built-in chains of tables that exist because of us and are otherwise empty. The
 * kernel rejects the whole table if a foreign rule was added meanwhile.
 */
export function renderRemoval(tables: SavedTables, emptiedHooks: Hooks): string {
  const lines: string[] = [];
  // A connection that is no longer redirected must not be refused for it.
  const refusals = refusalsOf(tables);
  if (refusals.length > 0) lines.push('*filter', ...refusals.map(deletionOf), 'COMMIT');
  // Redirects first: a connection that is redirected after its reply path was removed would hang.
  for (const name of tableNames.toReversed()) {
    const table = tables.get(name);
    const chains = ownChains(table);
    if (chains.length === 0) continue;
    lines.push(
      `*${name}`,
      ...ownJumps(table)
        .filter((jump) => !refusals.includes(jump))
        .map(deletionOf),
      ...chains.map((chain) => `-F ${chain}`),
      ...chains.map((chain) => `-X ${chain}`),
      ...(canGo(tables, name) ? hooksOf(emptiedHooks, name).map((hook) => `-X ${hook}`) : []),
      'COMMIT',
    );
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/**
 * Stops redirecting new connections and leaves everything that open ones need: the nat table itself, without which the
 * kernel would stop translating them, and the mangle rules, which also keep conntrack in use.
 */
export async function removeRedirects(place: Place, found: InstalledFamily): Promise<void> {
  // A SYN that nothing takes out of its queue would wait for ever, so the queue goes first. So would one to a closed workload.
  const removals = [
    ['mangle', ownLines(found.tables.get('mangle')).filter((rule) => isSynQueueRule(rule) || isClosing([rule]))],
    ['filter', refusalsOf(found.tables)],
    ['nat', ownJumps(found.tables.get('nat'))],
  ] as const;
  const blocks = removals.filter(([, rules]) => rules.length > 0);
  if (blocks.length === 0) return;
  const text = blocks.map(([table, rules]) => `*${table}\n${rules.map(deletionOf).join('\n')}\nCOMMIT\n`);
  await restore(place, text.join(''));
}

/** Removes everything of ours. What is missing is not an error. */
export async function removeAll(place: Place, found: InstalledFamily, hooks: Hooks): Promise<void> {
  const { runner, netnsFd, family } = place;
  await removeTables(place, found.tables, hooks);
  const batch = [...(found.hasRule ? [ipRule('del')] : []), ...(found.hasRoute ? [ipRoute('del')] : [])];
  if (batch.length > 0) {
    await runner.must({ argv: ['ip', `-${family}`, '-batch', '-'], netnsFd, input: `${batch.join('\n')}\n` });
  }
}

/** Removes our chains from these tables, and those tables that exist because of us. */
export async function removeTables(place: Place, tables: SavedTables, hooks: Hooks): Promise<void> {
  const ownTables = tableNames.filter((name) => canGo(tables, name));
  const whole = renderRemoval(tables, hooks);
  if (whole === '') return;
  const { code } = await place.runner.run({ argv: restoreCommand(place), netnsFd: place.netnsFd, input: whole });
  // A table of ours has foreign rules, or iptables created no such chain: keep the built-in chains. The first attempt
  // may have committed some tables, so this must not expect to find their chains again.
  if (code !== 0) {
    await removeChainsOneByOne(place, tables);
    await removeHooksOneByOne(place, hooks, ownTables);
  }
  if (ownTables.length > 0) dropEmptyTables(place, ownTables);
}

async function removeChainsOneByOne(place: Place, tables: SavedTables): Promise<void> {
  for (const name of tableNames.toReversed()) {
    const table = tables.get(name);
    if (table === undefined || ownChains(table).length === 0) continue;
    const argv = [`${place.backend.iptables[place.family]}-save`, '-t', name] as const;
    const saved = await place.runner.must({ argv: [...argv], netnsFd: place.netnsFd });
    const left = renderRemoval(parseSave(saved), []);
    if (left !== '') await restore(place, left);
  }
}

/** A built-in chain that is not there, or not empty, must not keep the others: which there are is not shown. */
async function removeHooksOneByOne(place: Place, hooks: Hooks, tables: readonly TableName[]): Promise<void> {
  for (const name of tables) {
    for (const hook of hooksOf(hooks, name)) {
      const input = `*${name}\n-X ${hook}\nCOMMIT\n`;
      await place.runner.run({ argv: restoreCommand(place), netnsFd: place.netnsFd, input });
    }
  }
}

/** The jumps that refuse what is not redirected. */
function refusalsOf(tables: SavedTables): readonly string[] {
  return ownJumps(tables.get('filter')).filter((jump) => hookOf(jump) === 'OUTPUT');
}

/** Only tables of ours (nf_tables back end) that contain no foreign rules. */
function canGo(tables: SavedTables, name: TableName): boolean {
  const table = tables.get(name);
  if (table === undefined || !isOwnTable(table)) return false;
  const own = new Set(ownJumps(table));
  const isForeignRule = (line: string): boolean => !line.startsWith(`-A ${chainPrefix}`) && !own.has(line);
  const isForeignChain = ([chain, policy]: readonly [string, string]): boolean =>
    !chain.startsWith(chainPrefix) && policy !== 'ACCEPT';
  return !table.rules.some(isForeignRule) && ![...table.chains].some(isForeignChain);
}

/** Deletes those of our tables that have no chain left. */
function dropEmptyTables({ netnsFd, family }: Place, tables: readonly TableName[]): void {
  for (const name of tables) deleteEmptyTable({ netnsFd, family, name });
}

export async function restore(place: Place, input: string): Promise<void> {
  await place.runner.must({ argv: restoreCommand(place), netnsFd: place.netnsFd, input });
}

function restoreCommand({ backend, family }: Place): [CaptureProgram, ...string[]] {
  return [`${backend.iptables[family]}-restore`, '--noflush', '-w', '5'];
}

function hooksOf(hooks: Hooks, table: TableName): string[] {
  return [...new Set(hooks.filter((each) => each.table === table).map(({ hook }) => hook))];
}

function deletionOf(rule: string): string {
  return rule.replace(/^-A /, '-D ');
}
