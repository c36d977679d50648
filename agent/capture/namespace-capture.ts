import { closeSync } from 'node:fs';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { CaptureExclusions } from '../../shared/routing/registry-entry.js';
import { mayChangeEarlyDemux } from '../native/early-demux.js';
import { netnsInode, openNetns } from '../native/netns.js';
import type { CaptureLog } from './firewall/capture-log.js';
import type { CaptureSettings } from './capture-settings.js';
import type {
  CapturedNetns,
  CaptureRepair,
  CaptureState,
  CaptureStatus,
  CheckResult,
  Ipv6Support,
} from './firewall/captured-netns.js';
import type { CommandRunner } from './firewall/command-runner.js';
import type { NetfilterBackend } from './firewall/netfilter-backend.js';
import { countCapturedSockets, waitForLastWords } from './open-connections.js';
import type { Hooks } from './firewall/removal.js';
import { type ChainPlans, RuleSet } from './firewall/rule-set.js';
import { RuleChanges } from './firewall/rule-changes.js';
import { type RuleOwnership, soleOwner } from './rule-ownership.js';
import { probeCapture, selfTestProblems } from './self-test.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import { type RuleStrength, WeakerRules } from './weaker-rules.js';
import { planClosedChains } from './firewall/closed-rules.js';
import { planWorkloadChains } from './firewall/workload-rules.js';

export const noExclusions: CaptureExclusions = {
  excludeOutboundPorts: [],
  excludeInboundPorts: [],
  excludeOutboundCidrs: [],
};

/** Every built-in chain that a workload's rules jump from. */
export const workloadHooks: Hooks = planWorkloadChains(4, noExclusions, { latePorts: [1] });

export type NamespaceCaptureInit = {
  readonly runner: CommandRunner;
  readonly backend: NetfilterBackend;
  readonly settings: CaptureSettings;
  readonly log: CaptureLog;
  readonly onRepair: (repair: CaptureRepair) => void;
  readonly workload: CapturedNetns;
  /** Inode of the namespace to capture. If the path leads to another inode, that namespace is gone. */
  readonly inode: number;
  /** The cgroup in which the agent's sockets are made; null: none of its own. */
  readonly ownCgroup: string | null;
  /** Default: nothing else changes the rules. */
  readonly ownership?: RuleOwnership;
};

/** The capture of one namespace. Its operations run one after the other. */
export class NamespaceCapture {
  readonly inode: number;
  readonly #init: NamespaceCaptureInit;
  readonly #rules: RuleSet;
  readonly #ownership: RuleOwnership;
  readonly #queue = new SerialQueue();
  /** Open while the namespace is captured. Also null where the kernel reports no changes. */
  #changes: RuleChanges | null = null;
  #workload: CapturedNetns;
  #plans: ChainPlans | undefined;
  #state: CaptureState = 'failed';
  #ipv6: Ipv6Support = 'on';
  #lastCheckAtMs: number | null = null;
  #repairs = 0;
  #problem: string | null = 'not applied yet';
  /** Damage that was found and is not known to be repaired, because the reload failed midway. Counted when it is. */
  #damage: ReadonlySet<string> = new Set();
  #isUnsettled = false;
  #ownCgroup: string | null;
  /** What is loaded no longer fits what others have in the namespace. */
  #isMisfit = false;
  /** Why other sockets on the agent's ports may get connections; null: they cannot. */
  #guardProblem: string | null = null;
  /** Why sockets of others can pass as the agent's; null: they cannot, or the agent has no cgroup of its own anywhere. */
  #exemptionProblem: string | null = null;
  #drainUntilMs = 0;
  /** A release was requested. A failed release is retried at each check. */
  #isLeaving = false;
  #isStopped = false;

  constructor(init: NamespaceCaptureInit) {
    const { runner, backend, workload, inode } = init;
    this.#init = init;
    this.#workload = workload;
    this.inode = inode;
    this.#ownership = init.ownership ?? soleOwner;
    this.#ownCgroup = init.ownCgroup;
    this.#rules = new RuleSet({ runner, backend, hasRoutes: true, hooks: workloadHooks });
  }

  get workload(): CapturedNetns {
    return this.#workload;
  }

  get state(): CaptureState {
    return this.#state;
  }

  /** Whether {@link takeChanges} reports damage. Otherwise only checks find it. */
  get reportsChanges(): boolean {
    return this.#changes?.isOpen ?? false;
  }

  /** A load or a comparison failed midway: the rules may not be as they should, so a full check is due soon. */
  get isUnsettled(): boolean {
    return this.#isUnsettled;
  }

  /** Whether rules or routing of the namespace changed since the last call, so that a full check is due. */
  takeChanges(): boolean {
    return this.#changes?.take() ?? false;
  }

  status(): CaptureStatus {
    return {
      name: this.#workload.name,
      netnsPath: this.#workload.netnsPath,
      netnsInode: this.inode,
      state: this.#state,
      ipv6: this.#ipv6,
      lastCheckAtMs: this.#lastCheckAtMs,
      repairs: this.#repairs,
      problem: this.#problem ?? (this.#workload.isClosed === true ? closedProblem : null),
      guardProblem: this.#guardProblem ?? (mayChangeEarlyDemux() ? null : noPlaintextGuard),
      exemptionProblem: this.#exemptionProblem,
    };
  }

  /**
   * Loads the rules, or updates them to changed exclusions and ports. Throws `CAPTURE_*`, or `ENOENT` if the namespace is gone.
   */
  async apply(workload: CapturedNetns): Promise<void> {
    const isSame = planKey(workload) === planKey(this.#workload);
    const plans = isSame && this.#plans !== undefined ? this.#plans : this.#planBoth(workload);
    await this.#queue.run(async () => {
      this.#isLeaving = false;
      this.#workload = workload;
      this.#plans = plans;
      await this.#inNamespace(async (fd) => {
        if (workload.isClosed === true && (await this.#closeFirst(fd, plans))) return;
        await this.#install(fd, plans);
        this.#isUnsettled = false;
        await this.#selfTest(fd);
      });
    });
  }

  /** Loads the rules for another cgroup of the agent. When that fails, each full check tries it again. Never throws. */
  async exempt(ownCgroup: string | null): Promise<void> {
    await this.#queue.run(async () => {
      this.#ownCgroup = ownCgroup;
      this.#replan();
      const isLoaded = this.#rules.isInstalled && !this.#isLeaving && !this.#isStopped;
      if (!isLoaded || this.#workload.isClosed === true) return;
      try {
        await this.#inNamespace((fd) => this.#install(fd, this.#replan()));
      } catch (error) {
        this.#exemptionProblem = `its rules are for another cgroup of the agent: ${describeError(error)}`;
      }
    });
  }

  /** Runs the self-test, and also compares the rules if `isFull` or if the test suggests it. Never throws. */
  async check(o: { readonly isFull: boolean }): Promise<CheckResult> {
    return await this.#queue.run(async () => {
      try {
        if (this.#state === 'gone' || this.#isStopped || this.#isGone()) return 'gone';
        if (this.#state === 'draining') return await this.#checkDrained();
        if (this.#isLeaving) return await this.#leaveAgain();
        return await this.#inNamespace((fd) => this.#checkInside(fd, o.isFull));
      } catch (error) {
        this.#isUnsettled = true;
        return this.#fail(error);
      }
    });
  }

  /**
   * Stops capturing. With `keepsConnections`, the rules that open connections need stay until those have ended
   * (`draining`) or the drain timeout has passed; otherwise they have a second to end. A namespace that is gone counts as
   * released. Throws `CAPTURE_*`; the checks then keep retrying, because nothing listens any more for what is still redirected.
   */
  async release(o: { readonly keepsConnections: boolean }): Promise<void> {
    await this.#queue.run(async () => {
      this.#isLeaving = true;
      await this.#leave(o);
    });
  }

  /** Stops checking and repairing; resolves when operations under way have ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#queue.run(async () => this.#unwatch());
  }

  async #leave(o: { readonly keepsConnections: boolean }): Promise<void> {
    if (this.#state === 'gone' || this.#isGone()) return;
    this.#unwatch();
    await this.#inNamespace(async (fd) => {
      if (this.#state !== 'draining') {
        await this.#rules.removeRedirects(fd);
        this.#state = 'draining';
        this.#problem = null;
        this.#drainUntilMs = Date.now() + this.#init.settings.drainTimeoutMs;
      }
      if (!o.keepsConnections) await waitForLastWords(this.#init.runner, fd);
      else if ((await this.#openSockets(fd)) > 0) return;
      await this.#finish(fd);
    });
  }

  async #leaveAgain(): Promise<CheckResult> {
    await this.#leave({ keepsConnections: true });
    return 'ok';
  }

  /**
   * For a namespace that has just been made, in which every millisecond counts. What was loaded is compared at the first check,
   * or when the workload is opened. Resolves with whether it is closed now.
   */
  async #closeFirst(fd: number, plans: ChainPlans): Promise<boolean> {
    if (this.#rules.isInstalled) return false;
    await this.#ownership.take(this.inode);
    if (!(await this.#rules.loadFirst(fd, plans))) return false;
    this.#watch(fd);
    this.#state = 'captured';
    this.#problem = null;
    return true;
  }

  async #install(fd: number, plans: ChainPlans): Promise<void> {
    this.#watch(fd);
    try {
      await this.#ownership.take(this.inode);
      this.#ipv6 = await this.#installGuarded(fd, plans);
    } catch (error) {
      this.#isUnsettled = true;
      this.#fail(error);
      this.#ownership.giveBack(this.inode);
      throw error;
    }
    this.#isMisfit = false;
    this.#state = 'captured';
    this.#problem = null;
  }

  /** As strong as the host allows; see {@link WeakerRules}. */
  async #installGuarded(fd: number, plans: ChainPlans): Promise<Ipv6Support> {
    const weaker = new WeakerRules(this.#strength);
    const ipv6 = await this.#rules.install(fd, plans, {
      // The changes that are reported of the load are our own; a foreign one among them that did damage is an error.
      onLoaded: () => void this.takeChanges(),
      instead: (family, error) => {
        const strength = weaker.next(family, error);
        return strength === null ? null : planFor(family, this.#workload, strength);
      },
    });
    this.#guardProblem = this.#noteWeakness(
      this.#guardProblem,
      "other programs can take the agent's ports in it",
      weaker.withoutGuard,
    );
    this.#exemptionProblem = this.#noteWeakness(
      this.#exemptionProblem,
      'a process with CAP_NET_RAW can leave capture in it',
      weaker.withoutCgroup,
    );
    return ipv6;
  }

  #noteWeakness(before: string | null, what: string, why: string | null): string | null {
    if (why === null) return null;
    const problem = `${what}: ${why}`;
    if (before === null) this.#init.log.warn({ workload: this.#workload.name }, `capture: ${problem}`);
    return problem;
  }

  #watch(fd: number): void {
    if (this.reportsChanges) return;
    const { backend, log } = this.#init;
    this.#changes = RuleChanges.open({ netnsFd: fd, hasRoutes: true, backend, log, place: this.#workload.name });
  }

  #unwatch(): void {
    this.#changes?.close();
    this.#changes = null;
  }

  /** Repairs damage before the self-test waits for an answer that would not come. */
  async #checkInside(fd: number, isFull: boolean): Promise<CheckResult> {
    const isRepair = this.#rules.isInstalled;
    const isWeak = this.#guardProblem !== null || this.#exemptionProblem !== null;
    if (isFull && isWeak) await this.#install(fd, this.#replan());
    if (isFull || !isRepair || this.#isUnsettled) {
      await this.#putBack(fd, { isBypassed: false });
      this.#isUnsettled = false;
    }
    let isSuspicious = await this.#selfTest(fd);
    if (isSuspicious && (await this.#putBack(fd, { isBypassed: true }))) isSuspicious = await this.#selfTest(fd);
    // Not before the test, which would no longer find rules of others that come first.
    if (this.#isMisfit && !this.#isStopped) await this.#install(fd, this.#replan());
    const found = [...this.#damage];
    this.#damage = new Set();
    if (isRepair && found.length > 0) this.#countRepair(found);
    if (isSuspicious) return 'failed';
    return found.length > 0 ? 'repaired' : 'ok';
  }

  /** Reloads the rules if they differ from what was loaded; returns whether they did. */
  async #putBack(fd: number, o: { readonly isBypassed: boolean }): Promise<boolean> {
    const { differences, ipv6, isFit } = await this.#rules.check(fd, o);
    this.#ipv6 = ipv6;
    this.#isMisfit = !isFit;
    if (differences.length === 0 || this.#isStopped) return false;
    this.#damage = new Set([...this.#damage, ...differences]);
    await this.#install(fd, this.#replan());
    return true;
  }

  /** Returns new plan objects, so that the rule set loads them although they are equal. */
  #replan(): ChainPlans {
    this.#plans = this.#planBoth(this.#workload);
    return this.#plans;
  }

  get #strength(): RuleStrength {
    return { isGuarded: true, ownCgroup: this.#ownCgroup };
  }

  #planBoth(workload: CapturedNetns): ChainPlans {
    return { 4: planFor(4, workload, this.#strength), 6: planFor(6, workload, this.#strength) };
  }

  #countRepair(found: readonly string[]): void {
    this.#repairs++;
    const { name } = this.#workload;
    this.#init.log.warn({ workload: name, found }, 'capture rules were changed and have been repaired');
    this.#init.onRepair({ name, found });
  }

  /** Sets state and problem from the outcome. Returns true if traffic may not be captured. */
  async #selfTest(fd: number): Promise<boolean> {
    const { settings } = this.#init;
    if (this.#workload.isClosed === true) {
      this.#state = this.#rules.isInstalled ? 'captured' : 'failed';
      return false;
    }
    const families: readonly (4 | 6)[] = this.#ipv6 === 'on' ? [4, 6] : [4];
    const results = await Promise.all(
      families.map(async (family) => {
        const { exclusions } = this.#workload;
        const result = await probeCapture({ netnsFd: fd, family, exclusions, timeoutMs: settings.selfTestTimeoutMs });
        return { family, result };
      }),
    );
    this.#lastCheckAtMs = Date.now();
    const bad = results.find(({ result }) => result === 'escaped' || result === 'refused');
    const slow = results.find(({ result }) => result === 'unanswered');
    const worst = bad ?? slow;
    this.#setProblem(
      worst === undefined ? null : `IPv${worst.family}: ${selfTestProblems[worst.result] ?? worst.result}`,
    );
    this.#state = bad === undefined && this.#rules.isInstalled ? 'captured' : 'failed';
    return bad !== undefined;
  }

  #fail(error: unknown): CheckResult {
    this.#state = 'failed';
    this.#lastCheckAtMs = Date.now();
    this.#setProblem(describeError(error));
    return 'failed';
  }

  #setProblem(problem: string | null): void {
    if (problem !== null && problem !== this.#problem) {
      this.#init.log.warn({ workload: this.#workload.name, netns: this.#workload.netnsPath }, `capture: ${problem}`);
    }
    this.#problem = problem;
  }

  /** Whether the path now leads elsewhere. A namespace's rules and sockets disappear with it. */
  #isGone(): boolean {
    if (netnsInode(this.#workload.netnsPath) === this.inode) return false;
    this.#unwatch();
    this.#setGone();
    this.#init.log.info({ workload: this.#workload.name }, 'the network namespace is gone; its capture is released');
    return true;
  }

  async #checkDrained(): Promise<CheckResult> {
    try {
      await this.#inNamespace(async (fd) => {
        if (Date.now() < this.#drainUntilMs && (await this.#openSockets(fd)) > 0) return;
        await this.#finish(fd);
      });
      return 'ok';
    } catch (error) {
      this.#setProblem(describeError(error));
      return 'failed';
    }
  }

  async #finish(fd: number): Promise<void> {
    await this.#rules.remove(fd);
    this.#setGone();
  }

  #setGone(): void {
    this.#state = 'gone';
    this.#problem = null;
    this.#ownership.giveBack(this.inode);
  }

  #openSockets(fd: number): Promise<number> {
    return countCapturedSockets(this.#init.runner, fd);
  }

  async #inNamespace<T>(step: (fd: number) => Promise<T>): Promise<T> {
    const { fd, inode } = openNetns(this.#workload.netnsPath);
    try {
      if (inode === this.inode) return await step(fd);
    } finally {
      closeSync(fd);
    }
    throw new CulvertError({
      code: 'ENOENT',
      message: `${this.#workload.netnsPath} now leads to another network namespace`,
      hint: 'release the workload and capture it again',
    });
  }
}

function planFor(family: 4 | 6, workload: CapturedNetns, strength: RuleStrength): ChainPlans[4] {
  const { exclusions, latePorts = [], isClosed } = workload;
  if (isClosed === true) return planClosedChains(family, exclusions);
  const hasEarlyDemux = !mayChangeEarlyDemux();
  return planWorkloadChains(family, exclusions, { latePorts, hasEarlyDemux, ...strength });
}

/** Equal keys stand for the same result of {@link planFor}. */
function planKey({ exclusions, latePorts, isClosed }: CapturedNetns): string {
  return JSON.stringify([exclusions, latePorts, isClosed]);
}

const noPlaintextGuard =
  "other programs can take the agent's port 15006 while it does not listen there: /proc/sys is read-only for the agent, and TCP early demultiplexing cannot be switched off";
const closedProblem = 'connections that begin wait until it can be served';
