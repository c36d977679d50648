import type { IpAddress } from '../../shared/address.js';
import { describeError } from '../../shared/errors.js';
import type { CaptureLog } from './firewall/capture-log.js';
import type { CaptureRepair } from './firewall/captured-netns.js';
import type { CommandRunner } from './firewall/command-runner.js';
import { planHostChains } from './firewall/host-rules.js';
import type { NetfilterBackend } from './firewall/netfilter-backend.js';
import type { Hooks } from './firewall/removal.js';
import { RuleChanges } from './firewall/rule-changes.js';
import { type ChainPlans, RuleSet } from './firewall/rule-set.js';
import { SerialQueue } from '../../shared/serial-queue.js';

/** Every built-in chain that the host's rules jump from. */
export const hostHooks: Hooks = planHostChains(4, ['192.0.2.1' as IpAddress]);

/**
 * The rules in the host's own namespace that let the host's probes through. If they cannot be loaded, probes fail, but
 * no workload loses its capture: problems are logged and shown, not thrown.
 */
export class HostCapture {
  readonly #rules: RuleSet;
  readonly #netnsFd: number | null;
  readonly #log: CaptureLog;
  readonly #onRepair: (repair: CaptureRepair) => void;
  readonly #backend: NetfilterBackend;
  readonly #idleCompareIntervalMs: number;
  readonly #queue = new SerialQueue();
  /** Also null where the kernel reports no changes. */
  #changes: RuleChanges | null = null;
  /** In terms of `performance.now()`. */
  #comparedAtMs = Number.NEGATIVE_INFINITY;
  #wanted: readonly IpAddress[] = [];
  #installed: { readonly addresses: readonly IpAddress[]; readonly plans: ChainPlans } | undefined;
  /** Damage that was found and is not known to be repaired, because the reload failed midway. Counted when it is. */
  #damage: ReadonlySet<string> = new Set();
  #problem: string | null = null;
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
  }) {
    this.#backend = init.backend;
    this.#idleCompareIntervalMs = init.idleCompareIntervalMs;
    this.#netnsFd = init.netnsFd;
    this.#rules = new RuleSet({ runner: init.runner, backend: init.backend, hasRoutes: false, hooks: hostHooks });
    this.#log = init.log;
    this.#onRepair = init.onRepair;
  }

  get problem(): string | null {
    return this.#problem;
  }

  /** Sets the addresses of all captured workloads. Calls that arrive while one runs share one further run. */
  async setAddresses(addresses: readonly IpAddress[]): Promise<void> {
    this.#wanted = addresses;
    await this.#queue.run(async () => {
      if (this.#installed?.addresses.join() === this.#wanted.join()) return;
      await this.#guard('loading', () => this.#install());
    });
  }

  /** Compares and repairs. Unless it is forced, only if something may have changed since the last time. */
  async check(o: { readonly isForced: boolean }): Promise<void> {
    await this.#queue.run(async () => {
      if (this.#wanted.length === 0 || this.#isStopped) return;
      const isTouched = this.#changes?.isOpen !== true || this.#changes.take();
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
    const plans = { 4: planHostChains(4, addresses), 6: planHostChains(6, addresses) };
    if (this.#changes?.isOpen !== true) {
      const [backend, log] = [this.#backend, this.#log];
      this.#changes = RuleChanges.open({ netnsFd: this.#netnsFd, hasRoutes: false, backend, log, place: 'host' });
    }
    await this.#rules.install(this.#netnsFd, plans, { onLoaded: () => void this.#changes?.take() });
    this.#installed = { addresses, plans };
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
