import { CulvertError } from '../../../shared/errors.js';
import { earlyDemuxPath } from '../../native/early-demux.js';
import { ownNetnsInode } from '../../native/netns.js';
import type { Ipv6Support } from './captured-netns.js';
import {
  because,
  type ChainPlan,
  earlyDemuxMark,
  hostMark,
  isClosing,
  renderRestore,
  type TableName,
  tableNames,
} from './chain-plan.js';
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
import { isTrackedByOthers } from './tracked-by-others.js';
import { withoutUntracked } from './untracked-rules.js';
import { ipRoute, ipRule, needNoEarlyDemux } from './workload-rules.js';

export type ChainPlans = Readonly<Record<4 | 6, readonly ChainPlan[]>>;

export type InstallOptions = {
  /** Called after loading and before the rules are read back, so that a later foreign change is not missed. */
  readonly onLoaded?: () => void;
  /**
   * Chains to load in place of those of a family that could not be loaded; null: none, and the error stands. Asked again
   * when these cannot be loaded either.
   */
  readonly instead?: (family: 4 | 6, error: unknown) => readonly ChainPlan[] | null;
};

type Installed = {
  readonly plans: ChainPlans;
  /** What was asked for, where all of that is loaded which fits the namespace. */
  readonly asked: ChainPlans;
  readonly isTrackedByOthers: boolean;
  readonly baseline: Readonly<Record<4 | 6, Baseline>>;
};

type Found = InstalledRules & { readonly isTrackedByOthers: boolean };

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
  #installed: Installed | undefined;
  /** TCP early demultiplexing is being switched off, or was: also where a flush took the mark for it. */
  #hasSwitched = false;

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
    const before = this.#installed;
    if (before?.asked === plans && isFit(before, found) && this.#differences(found, before).length === 0) {
      return found.ipv6;
    }
    const problems: unknown[] = [];
    const fitting = { 4: fittingOf(plans[4], found), 6: fittingOf(plans[6], found) };
    let loaded: ChainPlans = fitting;
    this.#hasSwitched ||= found.hasEarlyDemux && wantNoEarlyDemux(plans);
    const installFamily = async (family: 4 | 6): Promise<void> => {
      // A failing family (lo is down, for example) does not stop the other: uncaptured traffic would pass unprotected.
      try {
        const others = await this.#installEither(this.#place(netnsFd, family), fitting[family], found, o.instead);
        if (others !== null) loaded = { ...loaded, [family]: others };
      } catch (error) {
        problems.push(error);
      }
    };
    await Promise.all(familiesOf(found).map(installFamily));
    if (problems.length > 0) throw problems[0];
    if (found.hasEarlyDemux && wantNoEarlyDemux(loaded)) await this.#setEarlyDemux(netnsFd, false);
    o.onLoaded?.();
    const after = await this.#read(netnsFd);
    if (after.isTrackedByOthers !== found.isTrackedByOthers) return await this.install(netnsFd, plans, o);
    const baseline = { 4: baselineOf(after[4].tables), 6: baselineOf(after[6].tables) };
    for (const family of familiesOf(after)) assertComplete(family, loaded[family], baseline[family]);
    // With other chains in it, the next load of the same plans tries them again.
    const asked = loaded === fitting ? plans : loaded;
    const installed = { plans: loaded, asked, isTrackedByOthers: found.isTrackedByOthers, baseline };
    const [damage] = this.#differences(after, installed);
    if (damage !== undefined) throw damagedMeanwhile(damage);
    this.#installed = installed;
    return after.ipv6;
  }

  /**
   * Loads these chains with one program, without looking at what it loaded, into a namespace that has no rule and no chain.
   * Resolves with false where there are some, or where the load failed: {@link install} can do it then, or says why not.
   */
  async loadFirst(netnsFd: number, plans: ChainPlans): Promise<boolean> {
    const text = (family: 4 | 6): string => {
      const absent = this.#backend.kind === 'nft' ? tableNames : [];
      return renderRestore(plans[family], { jumps: {}, absent, marks: [hostMark(ownNetnsInode())] });
    };
    const { iptables } = this.#backend;
    const [v4, v6] = [text(4), text(6)];
    if (Math.max(v4.length, v6.length) > longestArgument) return false;
    const argv = ['sh', '-c', firstLoadScript(iptables), 'sh', v4, v6] as const;
    const { code } = await this.#runner.run({ argv: [...argv], netnsFd, isUrgent: true });
    return code === 0;
  }

  /**
   * Differences from what {@link install} left, one clause each; empty: none. Foreign rules are ignored, unless
   * `isBypassed`: connections were seen to escape. Then foreign rules before ours are listed too. `isFit` false: what is
   * loaded no longer fits what others have in the namespace, so it is due to be loaded again.
   */
  async check(
    netnsFd: number | null,
    o: { readonly isBypassed: boolean } = { isBypassed: false },
  ): Promise<{ readonly differences: readonly string[]; readonly ipv6: Ipv6Support; readonly isFit: boolean }> {
    const found = await this.#read(netnsFd);
    const differences =
      this.#installed === undefined ? ['rules are not loaded'] : this.#differences(found, this.#installed);
    const others = o.isBypassed ? familiesOf(found).flatMap((family) => bypasses(family, found[family])) : [];
    const isFitting = this.#installed === undefined || isFit(this.#installed, found);
    return { differences: [...differences, ...others], ipv6: found.ipv6, isFit: isFitting };
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
    // Its mark goes with the rules.
    if (this.#hasSwitched || hasEarlyDemuxMark(found)) await this.#setEarlyDemux(netnsFd, true);
    this.#hasSwitched = false;
    for (const family of familiesOf(found)) {
      await removeAll(this.#place(netnsFd, family), found[family], this.#hooks);
    }
  }

  async #setEarlyDemux(netnsFd: number | null, isOn: boolean): Promise<void> {
    await this.#runner.must({ argv: ['sh', '-c', `echo ${isOn ? 1 : 0} >${earlyDemuxPath}`], netnsFd });
  }

  async #read(netnsFd: number | null): Promise<Found> {
    const backend = this.#backend;
    const found = await readInstalled({ runner: this.#runner, backend, netnsFd });
    const isTracked = netnsFd !== null && isTrackedByOthers({ netnsFd, backend, found });
    return { ...found, isTrackedByOthers: isTracked };
  }

  #place(netnsFd: number | null, family: 4 | 6): Place {
    return { runner: this.#runner, backend: this.#backend, netnsFd, family };
  }

  /** Resolves with the chains of `instead` that were loaded in place of these; null: these were. */
  async #installEither(
    place: Place,
    chains: readonly ChainPlan[],
    found: Found,
    instead: InstallOptions['instead'],
  ): Promise<readonly ChainPlan[] | null> {
    let tried: readonly ChainPlan[] | null = null;
    let before = found;
    for (;;) {
      try {
        await this.#installFamily(place, tried ?? chains, before);
        return tried;
      } catch (error) {
        const others = instead?.(place.family, error) ?? null;
        if (others === null) throw error;
        tried = fittingOf(others, found);
        // Some tables of the attempt may have been loaded.
        before = await this.#read(place.netnsFd);
      }
    }
  }

  async #installFamily(place: Place, chains: readonly ChainPlan[], found: InstalledRules): Promise<void> {
    const installed = found[place.family];
    if (chains.length === 0) {
      await removeAll(place, installed, this.#hooks);
      return;
    }
    const routes = await Promise.allSettled([this.#addRoutes(place, chains, found)]);
    const existing = existingTables(installed.tables, this.#backend);
    const marks = place.netnsFd === null ? [] : [hostMark(ownNetnsInode())];
    if (place.family === 4) {
      this.#hasSwitched ||= hasEarlyDemuxMark(found);
      if (this.#hasSwitched) marks.push(earlyDemuxMark);
    }
    await restore(place, renderRestore(chains, { ...existing, marks }));
    if (!areClosing(chains)) {
      const others = [...installed.tables].filter(([name]) => !chains.some(({ table }) => table === name));
      await removeTables(place, new Map(others), this.#hooks);
    }
    if (routes[0].status === 'rejected') throw routes[0].reason;
  }

  async #addRoutes(place: Place, chains: readonly ChainPlan[], found: InstalledRules): Promise<void> {
    const missing = this.#missingRoutes(found, place.family, chains);
    if (missing.length === 0) return;
    const argv = ['ip', `-${place.family}`, '-batch', '-'] as const;
    await this.#runner.must({ argv: [...argv], netnsFd: place.netnsFd, input: `${missing.join('\n')}\n` });
  }

  #missingRoutes(found: InstalledRules, family: 4 | 6, chains: readonly ChainPlan[]): string[] {
    // A closed namespace has no replies that need them. The loopback interface, which routes need, may be down.
    if (!this.#hasRoutes || areClosing(chains)) return [];
    if (family === 6 && found.ipv6 !== 'on') return [];
    const { hasRule, hasRoute } = found[family];
    return [...(hasRule ? [] : [ipRule('add')]), ...(hasRoute ? [] : [ipRoute('add')])];
  }

  #differences(found: InstalledRules, { plans, baseline }: Installed): string[] {
    const isOn = found.hasEarlyDemux && wantNoEarlyDemux(plans);
    const ofFamilies = familiesOf(found).flatMap((family) => [
      ...tableDifferences(family, baseline[family], found[family]),
      ...this.#missingRoutes(found, family, plans[family]).map(
        (command) => `IPv${family}: ip ${command.replace(' add', '')} is missing`,
      ),
    ]);
    return isOn ? [...ofFamilies, 'net.ipv4.tcp_early_demux is on'] : ofFamilies;
  }
}

function fittingOf(chains: readonly ChainPlan[], found: Found): readonly ChainPlan[] {
  return found.isTrackedByOthers ? withoutUntracked(chains) : chains;
}

/** A difference between the families' chains and what fits them can only come from what was asked for. */
function isFit({ asked, isTrackedByOthers: wasTracked }: Installed, found: Found): boolean {
  const isSame = ([4, 6] as const).every((family) => withoutUntracked(asked[family]).length === asked[family].length);
  return isSame || wasTracked === found.isTrackedByOthers;
}

/** Then the tables without chains stay as they are: the connections of a workload that drains live on them. */
function areClosing(chains: readonly ChainPlan[]): boolean {
  return chains.some(({ rules }) => isClosing(rules));
}

/** Of the kernel, for one argument of a program: 128 KiB (MAX_ARG_STRLEN). */
const longestArgument = 120_000;

/**
 * Both families at the same time, because each waits for the kernel. The texts are its arguments. The privileged helper runs
 * exactly this script (agent/native/helper/rule-programs.c).
 */
function firstLoadScript(iptables: NetfilterBackend['iptables']): string {
  return [
    'load() { test -z "$($1-save)" && printf %s "$2" | $1-restore --noflush -w 5; }',
    `load ${iptables[4]} "$1" &`,
    'first=$!; second=0',
    `test ! -e /proc/net/if_inet6 || load ${iptables[6]} "$2" || second=1`,
    'wait $first && exit $second',
  ].join('\n');
}

function hasEarlyDemuxMark(found: InstalledRules): boolean {
  return ownChains(found[4].tables.get('nat')).includes(earlyDemuxMark);
}

function wantNoEarlyDemux(plans: ChainPlans): boolean {
  return needNoEarlyDemux(plans[4]) || needNoEarlyDemux(plans[6]);
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
  for (const name of areClosing(chains) ? (['mangle'] as const) : tableNames) {
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
