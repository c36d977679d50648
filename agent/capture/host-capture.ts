import type { IpAddress } from '../../shared/address.js';
import { describeError } from '../../shared/errors.js';
import type { CaptureLog } from './firewall/capture-log.js';
import type { CaptureRepair } from './firewall/captured-netns.js';
import type { CommandRunner } from './firewall/command-runner.js';
import { planHostChains } from './firewall/host-rules.js';
import { cgroupInode } from './own-cgroup.js';
import type { Prober } from './firewall/probers.js';
import type { NetfilterBackend } from './firewall/netfilter-backend.js';
import type { Hooks } from './firewall/removal.js';
import { RuleChanges } from './firewall/rule-changes.js';
import { type ChainPlans, RuleSet } from './firewall/rule-set.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import { type RuleStrength, WeakerRules } from './weaker-rules.js';

/** Every built-in chain that the host's rules jump from. */
const hostHooks: Hooks = [
  { table: 'filter', hook: 'INPUT' },
  { table: 'nat', hook: 'OUTPUT' },
];
/** Those of versions before, which gave probes a source address of their own. */
const formerHostHooks: Hooks = [
  { table: 'nat', hook: 'POSTROUTING' },
  { table: 'mangle', hook: 'PREROUTING' },
];

/** The host's rules: those of this version, or those of a version before that are there. */
export async function hostRuleSet(o: {
  readonly runner: CommandRunner;
  readonly backend: NetfilterBackend;
  readonly netnsFd: number | null;
}): Promise<{ readonly rules: RuleSet; readonly isFormer: boolean }> {
  const former = new RuleSet({ ...o, hasRoutes: false, hooks: formerHostHooks });
  const isFormer = (await former.leftovers(o.netnsFd)).some((what) => / CULVERT_(?:POST|PRE)ROUTING$/.test(what));
  return { rules: isFormer ? former : new RuleSet({ ...o, hasRoutes: false, hooks: hostHooks }), isFormer };
}

/**
 * The rules in the host's own namespace that lead the probes of its programs to the agent. If they cannot be loaded, probes are
 * judged like other connections, and no workload loses its capture: problems are logged and shown, not thrown.
 */
export class HostCapture {
  readonly #rules: RuleSet;
  readonly #netnsFd: number | null;
  readonly #log: CaptureLog;
  readonly #onRepair: (repair: CaptureRepair) => void;
  readonly #backend: NetfilterBackend;
  readonly #runner: CommandRunner;
  readonly #idleCompareIntervalMs: number;
  readonly #probers: readonly Prober[];
  #ownCgroup: string | null;
  readonly #queue = new SerialQueue();
  /** Also null where the kernel reports no changes. */
  #changes: RuleChanges | null = null;
  /** In terms of `performance.now()`. */
  #comparedAtMs = Number.NEGATIVE_INFINITY;
  #wanted: readonly IpAddress[] = [];
  #installed:
    | { readonly addresses: readonly IpAddress[]; readonly plans: ChainPlans; readonly cgroups: string }
    | undefined;
  /** Damage that was found and is not known to be repaired, because the reload failed midway. Counted when it is. */
  #damage: ReadonlySet<string> = new Set();
  #problem: string | null = null;
  /** What the kernel or iptables lack for the whole of the rules; null: nothing. */
  #weakness: string | null = null;
  #isStopped = false;

  constructor(init: {
    runner: CommandRunner;
    backend: NetfilterBackend;
    log: CaptureLog;
    onRepair: (repair: CaptureRepair) => void;
    /** The host's namespace, if the agent runs in another one (the fd stays the caller's); null: the agent's own. */
    netnsFd: number | null;
    /** Between two comparisons while no rule of the namespace changes, in milliseconds. */
    idleCompareIntervalMs: number;
    /** Default: none. */
    probers?: readonly Prober[];
    /** The cgroup in which the agent's sockets are made; null, the default: none of its own. */
    ownCgroup?: string | null;
  }) {
    this.#backend = init.backend;
    this.#runner = init.runner;
    this.#idleCompareIntervalMs = init.idleCompareIntervalMs;
    this.#netnsFd = init.netnsFd;
    this.#probers = init.probers ?? [];
    this.#ownCgroup = init.ownCgroup ?? null;
    this.#rules = new RuleSet({ runner: init.runner, backend: init.backend, hasRoutes: false, hooks: hostHooks });
    this.#log = init.log;
    this.#onRepair = init.onRepair;
  }

  get problem(): string | null {
    if (this.#problem !== null || this.#weakness === null) return this.#problem;
    return `another program of the host can take probes, or the agent's own connections can become some: ${this.#weakness}`;
  }

  /** Sets the addresses of all captured workloads. Calls that arrive while one runs share one further run. */
  async setAddresses(addresses: readonly IpAddress[]): Promise<void> {
    this.#wanted = addresses;
    await this.#queue.run(async () => {
      const isSame = this.#installed !== undefined && this.#installed.addresses.join() === this.#wanted.join();
      if (isSame && this.#problem === null) return;
      await this.#guard('loading', () => this.#install());
    });
  }

  /** Loads the rules for another cgroup of the agent. Never throws. */
  async exempt(ownCgroup: string | null): Promise<void> {
    await this.#queue.run(async () => {
      this.#ownCgroup = ownCgroup;
      if (this.#installed !== undefined && !this.#isStopped) await this.#guard('loading', () => this.#install());
    });
  }

  /** Compares and repairs. Unless it is forced, only if something may have changed since the last time. */
  async check(o: { readonly isForced: boolean }): Promise<void> {
    await this.#queue.run(async () => {
      if (this.#wanted.length === 0 || this.#probers.length === 0 || this.#isStopped) return;
      const isTouched = this.#changes?.isOpen !== true || this.#changes.take();
      // A rule means the cgroup that had the path when it was loaded, and a program that starts again has another one.
      if (this.#installed !== undefined && this.#installed.cgroups !== cgroupsOf(this.#probers)) {
        await this.#guard('loading', () => this.#install());
      }
      const isOverdue = performance.now() - this.#comparedAtMs >= this.#idleCompareIntervalMs;
      if (!o.isForced && !isTouched && !isOverdue && this.#problem === null) return;
      this.#comparedAtMs = performance.now();
      await this.#guard('checking', async () => {
        const isNew = this.#installed === undefined;
        const { differences } = await this.#rules.check(this.#netnsFd);
        if (!isNew) this.#damage = new Set([...this.#damage, ...differences]);
        if (differences.length > 0) await this.#install();
        const found = [...this.#damage];
        this.#damage = new Set();
        if (found.length === 0) return;
        this.#log.warn({ found }, "the host's capture rules were changed and have been repaired");
        this.#onRepair({ name: 'host', found });
      });
    });
  }

  /** Stops repairing; resolves when operations under way have ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#queue.run(async () => this.#unwatch());
  }

  /** Removes the rules. Throws `CAPTURE_RULES` or `CAPTURE_TOOL`. */
  async remove(): Promise<void> {
    this.#wanted = [];
    await this.#queue.run(async () => {
      this.#unwatch();
      this.#installed = undefined;
      await this.#rules.remove(this.#netnsFd);
    });
  }

  async #install(): Promise<void> {
    const addresses = this.#wanted;
    const cgroups = cgroupsOf(this.#probers);
    const probers = this.#probers.filter((prober) => prober.kind !== 'cgroup' || cgroupInode(prober.path) !== null);
    const strength = { isGuarded: true, ownCgroup: this.#ownCgroup };
    const plan = (family: 4 | 6, how: RuleStrength): ChainPlans[4] => planHostChains(family, addresses, probers, how);
    const plans = { 4: plan(4, strength), 6: plan(6, strength) };
    if (this.#installed === undefined) await this.#removeFormer();
    if (this.#changes?.isOpen !== true) {
      const [backend, log] = [this.#backend, this.#log];
      this.#changes = RuleChanges.open({ netnsFd: this.#netnsFd, hasRoutes: false, backend, log, place: 'host' });
    }
    const weaker = new WeakerRules(strength);
    await this.#rules.install(this.#netnsFd, plans, {
      onLoaded: () => void this.#changes?.take(),
      instead: (family, error) => {
        const how = weaker.next(family, error);
        return how === null ? null : plan(family, how);
      },
    });
    const weakness = weaker.withoutGuard ?? weaker.withoutCgroup;
    if (weakness !== this.#weakness && weakness !== null)
      this.#log.warn({ weakness }, "the host's rules for probes are weaker");
    this.#weakness = weakness;
    this.#installed = { addresses, plans, cgroups };
  }

  /** What is loaded over other chains does not remove those. */
  async #removeFormer(): Promise<void> {
    const where = { runner: this.#runner, backend: this.#backend, netnsFd: this.#netnsFd };
    const { rules, isFormer } = await hostRuleSet(where);
    if (isFormer) await rules.remove(this.#netnsFd);
  }

  #unwatch(): void {
    this.#changes?.close();
    this.#changes = null;
  }

  async #guard(what: string, step: () => Promise<void>): Promise<void> {
    try {
      await step();
      this.#problem = null;
    } catch (error) {
      const problem = `${what} the host's rules for probes: ${describeError(error)}`;
      if (this.#problem !== problem) this.#log.error({ err: error }, problem);
      this.#problem = problem;
    }
  }
}

/** Which of the cgroups there are, and which they are. */
function cgroupsOf(probers: readonly Prober[]): string {
  return probers.flatMap((prober) => (prober.kind === 'cgroup' ? [cgroupInode(prober.path) ?? '-'] : [])).join();
}
