import { CulvertError } from '../../../shared/errors.js';
import { ownNetnsInode } from '../../native/netns.js';
import type { Ipv6Support } from './captured-netns.js';
import { because, type ChainPlan, hostMark, renderRestore, type TableName, tableNames } from './chain-plan.js';
import type { CommandRunner } from './command-runner.js';
import {
  existingTables,
  type InstalledFamily,
  type InstalledRules,
  ownChains,
  ownLines,
  readInstalled,
  rulesBeforeOwnJumps,
  type SavedTables,
} from './installed-rules.js';
import type { NetfilterBackend } from './netfilter-backend.js';
import { type Hooks, type Place, removeAll, removeRedirects, removeTables, restore } from './removal.js';
import { ipRoute, ipRule } from './workload-rules.js';

export type ChainPlans = Readonly<Record<4 | 6, readonly ChainPlan[]>>;

export type InstallOptions = {
  /** Called after loading and before the rules are read back, so that a later foreign change is not missed. */
  readonly onLoaded?: () => void;
  /** Chains to load in place of those of a family that could not be loaded; null: none, and the error stands. */
  readonly instead?: (family: 4 | 6, error: unknown) => readonly ChainPlan[] | null;
};

/** Our rules of one table, as printed by `iptables-save`. */
type Baseline = Readonly<Record<TableName, readonly string[]>>;

/**
 * Our rules in one namespace: installs them, finds differences from what was installed, and removes them. The caller
 * must run one operation at a time.
 *
 * Comparisons use what `iptables-save` printed right after loading, because versions of iptables print the same rule
 * differently.
 */
export class RuleSet {
  readonly #runner: CommandRunner;
  readonly #backend: NetfilterBackend;
  readonly #hasRoutes: boolean;
  readonly #hooks: Hooks;
  #installed: { readonly plans: ChainPlans; readonly baseline: Readonly<Record<4 | 6, Baseline>> } | undefined;

  /**
   * `hasRoutes`: includes the policy routing for replies. `hooks`: every built-in chain that a plan may ever jump from.
   */
  constructor(init: { runner: CommandRunner; backend: NetfilterBackend; hasRoutes: boolean; hooks: Hooks }) {
    this.#runner = init.runner;
    this.#backend = init.backend;
    this.#hasRoutes = init.hasRoutes;
    this.#hooks = init.hooks;
  }

  /** Whether {@link install} has succeeded and nothing was removed since. */
  get isInstalled(): boolean {
    return this.#installed !== undefined;
  }

  /**
   * Makes the namespace hold exactly these chains; changes nothing if it already does. Throws `CAPTURE_RULES` or
   * `CAPTURE_TOOL`. What was loaded until then stays, because half a capture refuses traffic and no capture lets it
   * through. A foreign change during the load that did damage is such an error too.
   */
  async install(netnsFd: number | null, plans: ChainPlans, o: InstallOptions = {}): Promise<Ipv6Support> {
    const found = await this.#read(netnsFd);
    if (this.#installed?.plans === plans && this.#differences(found, this.#installed.baseline).length === 0) {
      return found.ipv6;
    }
    const problems: unknown[] = [];
    let loaded = plans;
    for (const family of familiesOf(found)) {
      // A failing family (lo is down, for example) does not stop the other: uncaptured traffic would pass unprotected.
      try {
        const others = await this.#installEither(this.#place(netnsFd, family), plans[family], found, o.instead);
        if (others !== null) loaded = { ...loaded, [family]: others };
      } catch (error) {
        problems.push(error);
      }
    }
    if (problems.length > 0) throw problems[0];
    o.onLoaded?.();
    const after = await this.#read(netnsFd);
    const baseline = { 4: baselineOf(after[4].tables), 6: baselineOf(after[6].tables) };
    for (const family of familiesOf(after)) assertComplete(family, loaded[family], baseline[family]);
    const [damage] = this.#differences(after, baseline);
    if (damage !== undefined) throw damagedMeanwhile(damage);
    // With other chains in it, the next load of the same plans tries them again.
    this.#installed = { plans: loaded, baseline };
    return after.ipv6;
  }

  /**
   * Differences from what {@link install} left, one clause each; empty: none. Foreign rules are ignored, unless
   * `isBypassed`: connections were seen to escape. Then foreign rules before ours are listed too.
   */
  async check(
    netnsFd: number | null,
    o: { readonly isBypassed: boolean } = { isBypassed: false },
  ): Promise<{ readonly differences: readonly string[]; readonly ipv6: Ipv6Support }> {
    const found = await this.#read(netnsFd);
    const differences =
      this.#installed === undefined ? ['rules are not loaded'] : this.#differences(found, this.#installed.baseline);
    const others = o.isBypassed ? familiesOf(found).flatMap((family) => bypasses(family, found[family])) : [];
    return { differences: [...differences, ...others], ipv6: found.ipv6 };
  }

  /** New connections bypass the agent; open ones continue. */
  async removeRedirects(netnsFd: number | null): Promise<void> {
    this.#installed = undefined;
    const found = await this.#read(netnsFd);
    for (const family of familiesOf(found)) await removeRedirects(this.#place(netnsFd, family), found[family]);
  }

  /** What of ours is in the namespace, one clause each, also what another agent loaded. */
  async leftovers(netnsFd: number | null): Promise<readonly string[]> {
    const found = await this.#read(netnsFd);
    return familiesOf(found).flatMap((family) => {
      const { tables, hasRule, hasRoute } = found[family];
      const chains = tableNames.flatMap((name) => ownChains(tables.get(name)).map((chain) => `${name} ${chain}`));
      const routing = [...(hasRule ? ['policy rule'] : []), ...(hasRoute ? ['route'] : [])];
      return [...chains, ...routing].map((what) => `IPv${family} ${what}`);
    });
  }

  /** Leaves the namespace as it was before. */
  async remove(netnsFd: number | null): Promise<void> {
    this.#installed = undefined;
    const found = await this.#read(netnsFd);
    for (const family of familiesOf(found)) {
      await removeAll(this.#place(netnsFd, family), found[family], this.#hooks);
    }
  }

  #read(netnsFd: number | null): Promise<InstalledRules> {
    return readInstalled({ runner: this.#runner, backend: this.#backend, netnsFd });
  }

  #place(netnsFd: number | null, family: 4 | 6): Place {
    return { runner: this.#runner, backend: this.#backend, netnsFd, family };
  }

  /** Resolves with the chains of `instead` that were loaded in place of these; null: these were. */
  async #installEither(
    place: Place,
    chains: readonly ChainPlan[],
    found: InstalledRules,
    instead: InstallOptions['instead'],
  ): Promise<readonly ChainPlan[] | null> {
    try {
      await this.#installFamily(place, chains, found);
      return null;
    } catch (error) {
      const others = instead?.(place.family, error) ?? null;
      if (others === null) throw error;
      // Some tables of the first attempt may have been loaded.
      await this.#installFamily(place, others, await this.#read(place.netnsFd));
      return others;
    }
  }

  async #installFamily(place: Place, chains: readonly ChainPlan[], found: InstalledRules): Promise<void> {
    const installed = found[place.family];
    if (chains.length === 0) {
      await removeAll(place, installed, this.#hooks);
      return;
    }
    const routes = await Promise.allSettled([this.#addRoutes(place, found)]);
    const existing = existingTables(installed.tables, this.#backend);
    const mark = place.netnsFd === null ? {} : { hostMark: hostMark(ownNetnsInode()) };
    await restore(place, renderRestore(chains, { ...existing, ...mark }));
    const others = [...installed.tables].filter(([name]) => !chains.some(({ table }) => table === name));
    await removeTables(place, new Map(others), this.#hooks);
    if (routes[0].status === 'rejected') throw routes[0].reason;
  }

  async #addRoutes(place: Place, found: InstalledRules): Promise<void> {
    const missing = this.#missingRoutes(found, place.family);
    if (missing.length === 0) return;
    const argv = ['ip', `-${place.family}`, '-batch', '-'] as const;
    await this.#runner.must({ argv: [...argv], netnsFd: place.netnsFd, input: `${missing.join('\n')}\n` });
  }

  #missingRoutes(found: InstalledRules, family: 4 | 6): string[] {
    if (!this.#hasRoutes || (family === 6 && found.ipv6 !== 'on')) return [];
    const { hasRule, hasRoute } = found[family];
    return [...(hasRule ? [] : [ipRule('add')]), ...(hasRoute ? [] : [ipRoute('add')])];
  }

  #differences(found: InstalledRules, expected: Readonly<Record<4 | 6, Baseline>>): string[] {
    return familiesOf(found).flatMap((family) => [
      ...tableDifferences(family, expected[family], found[family]),
      ...this.#missingRoutes(found, family).map(
        (command) => `IPv${family}: ip ${command.replace(' add', '')} is missing`,
      ),
    ]);
  }
}

function damagedMeanwhile(damage: string): CulvertError {
  return new CulvertError({
    code: 'CAPTURE_RULES',
    message: `rules were changed while they were being loaded: ${damage}`,
    hint: 'does another program change iptables or policy routing at the same time?',
  });
}

function familiesOf(found: InstalledRules): readonly (4 | 6)[] {
  return found.ipv6 === 'absent' ? [4] : [4, 6];
}

function baselineOf(tables: SavedTables): Baseline {
  const linesOf = (name: TableName): readonly string[] => ownLines(tables.get(name));
  return { raw: linesOf('raw'), mangle: linesOf('mangle'), filter: linesOf('filter'), nat: linesOf('nat') };
}

function bypasses(family: 4 | 6, found: InstalledFamily): string[] {
  return tableNames.flatMap((name) =>
    rulesBeforeOwnJumps(found.tables.get(name)).map(
      (line) => `IPv${family} ${name}: a foreign rule comes first: ${line}`,
    ),
  );
}

function tableDifferences(family: 4 | 6, expected: Baseline, found: InstalledFamily): string[] {
  return tableNames.flatMap((name) => {
    const actual = ownLines(found.tables.get(name));
    const missing = expected[name].filter((line) => !actual.includes(line));
    const extra = actual.filter((line) => !expected[name].includes(line));
    const isReordered =
      missing.length + extra.length === 0 &&
      (actual.length !== expected[name].length || actual.some((line, index) => line !== expected[name][index]));
    const where = `IPv${family} ${name}`;
    return [
      ...missing.map((line) => `${where}: missing ${line}`),
      ...extra.map((line) => `${where}: unexpected ${line}`),
      ...(isReordered ? [`${where}: rules are duplicated or in another order`] : []),
    ];
  });
}

/**
 * iptables may accept rules that the kernel then does not show (a chain of the other back end, for example), and another
 * program may have changed them since. Better to detect that now than later: what is shown is what later checks expect.
 */
function assertComplete(family: 4 | 6, chains: readonly ChainPlan[], baseline: Baseline): void {
  for (const name of tableNames) {
    const ours = chains.filter(({ table }) => table === name);
    const wanted = purposes(
      ours.flatMap(({ hook, chain, rules }) => [
        `-A ${hook} ${because('jump')}`,
        ...rules.map((rule) => `-A ${chain} ${rule}`),
      ]),
    );
    if (wanted === purposes(baseline[name])) continue;
    const count = ours.reduce((sum, { rules }) => sum + rules.length + 1, 0);
    throw new CulvertError({
      code: 'CAPTURE_RULES',
      message: `IPv${family} table ${name} shows other rules of ours after loading than were loaded (${baseline[name].length} instead of ${count})`,
      hint: 'does another program change iptables at the same time, or use the other back end (iptables -V)?',
    });
  }
}

/** What each rule is for, chain by chain and in order: versions of iptables print all else in different ways. */
function purposes(lines: readonly string[]): string {
  const byChain = new Map<string, string[]>();
  for (const line of lines) {
    const chain = line.split(' ', 2)[1] ?? '';
    byChain.set(chain, [...(byChain.get(chain) ?? []), /culvert:[\w-]+/.exec(line)?.[0] ?? 'foreign']);
  }
  return JSON.stringify([...byChain].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
