import { closeSync } from 'node:fs';
import { CulvertError } from '../../shared/errors.js';
import { openNetns, ownNetnsInode } from '../native/netns.js';
import type { CaptureLog } from './firewall/capture-log.js';
import { type CaptureSettings, defaultCaptureSettings } from './capture-settings.js';
import type { CapturedNetns, CaptureRepair, CaptureStatus, CheckResult } from './firewall/captured-netns.js';
import { CommandRunner } from './firewall/command-runner.js';
import { isRuled, readInstalled } from './firewall/installed-rules.js';
import { HostCapture } from './host-capture.js';
import { LeftNamespaces } from './left-namespaces.js';
import { NamespaceCapture } from './namespace-capture.js';
import { type CgroupFound, lookForMove, movedFrom, type OwnCgroup } from './own-cgroup.js';
import type { Prober } from './firewall/probers.js';
import { detectBackend, type NetfilterBackend } from './firewall/netfilter-backend.js';
import { addressesOnlyThere } from './namespace-addresses.js';
import { type RuleOwnership, soleOwner } from './rule-ownership.js';
import type { WorkloadName } from '../../shared/routing/names.js';

export type WorkloadCaptureInit = {
  readonly log: CaptureLog;
  readonly settings?: Partial<CaptureSettings>;
  /** In which cgroup the agent's sockets are made; default: it has none of its own. */
  readonly cgroup?: CgroupFound;
  /** Who on the host may connect to its workloads without a rule; default: none may. */
  readonly probers?: readonly Prober[];
  /** Default: nothing else changes the rules of its namespaces. */
  readonly ownership?: RuleOwnership;
  /** Called after a foreign change of the rules was repaired. */
  readonly onRepair?: (repair: CaptureRepair) => void;
};

/** Minimum pause between two checks of one namespace, however slow they are. */
const minPauseMs = 250;
/** Minimum pause between two comparisons of one namespace, however often it changes. */
const minComparePauseMs = 1000;

type Entry = {
  readonly capture: NamespaceCapture;
  timer: NodeJS.Timeout | undefined;
  /** In terms of `performance.now()`, because the wall clock may be set. */
  comparedAtMs: number;
  /** Its rules or routing changed since the last comparison. */
  isTouched: boolean;
  /** How many checks have failed midway, one after the other. */
  failures: number;
};

/**
 * The control thread's interface to capture: loads the rules of each workload's namespace and of the host, monitors and
 * repairs them, and removes them. It must run in a process in the host's namespace.
 */
export class WorkloadCapture {
  readonly #log: CaptureLog;
  readonly #settings: CaptureSettings;
  readonly #onRepair: (repair: CaptureRepair) => void;
  #cgroup: CgroupFound;
  /** Where the agent was when it was looked for last; null: it has never had a cgroup of its own. */
  #place: OwnCgroup | null;
  #sharedProblem: string | null = null;
  readonly #probers: readonly Prober[];
  readonly #ownership: RuleOwnership;
  readonly #runner: CommandRunner;
  readonly #entries = new Map<string, Entry>();
  /** Probes of the host go to the agent for these too, until they are applied here, or the caller removes them. */
  readonly left = new LeftNamespaces();
  #parts: Promise<{ backend: NetfilterBackend; host: HostCapture }> | undefined;
  #backend: Promise<NetfilterBackend> | undefined;
  #host: HostCapture | undefined;
  #hostTimer: NodeJS.Timeout | undefined;
  readonly #pollTimer: NodeJS.Timeout;
  #isClosed = false;

  constructor(init: WorkloadCaptureInit) {
    this.#log = init.log;
    this.#settings = { ...defaultCaptureSettings, ...init.settings };
    this.#onRepair = init.onRepair ?? (() => {});
    this.#cgroup = init.cgroup ?? { problem: 'the agent was started without a cgroup of its own' };
    this.#place = 'path' in this.#cgroup ? this.#cgroup : null;
    this.#probers = init.probers ?? [];
    this.#ownership = init.ownership ?? soleOwner;
    this.#runner = new CommandRunner({ maxParallel: this.#settings.maxParallelCommands });
    this.#pollTimer = setInterval(() => this.#poll(), this.#settings.pollIntervalMs);
    this.#pollTimer.unref();
  }

  /** Call before the first namespace appears: finding out which iptables the host uses takes longer than to use it. */
  warmUp(): void {
    this.#findBackend().catch(() => undefined);
  }

  /**
   * Captures a workload, or updates its exclusions and addresses. Resolves when new connections are redirected. Without a
   * listener of the agent they are refused.
   *
   * Throws `ENOENT`/`EINVAL` (no such namespace), `CAPTURE_OWN_NETNS`, `CAPTURE_NETNS_SHARED`, `CAPTURE_EXCLUSION`,
   * `CAPTURE_TOOL` and `CAPTURE_RULES`. After the last two the workload is kept and retried at every check.
   */
  async apply(workload: CapturedNetns): Promise<void> {
    const { backend, host } = await this.#prepare();
    const inode = this.#admit(workload);
    let entry = this.#entries.get(workload.name);
    const isNew = entry?.capture.inode !== inode;
    if (entry === undefined || isNew) {
      if (entry !== undefined) this.#forget(entry);
      entry = this.#newEntry(workload, inode, backend);
    }
    try {
      await entry.capture.apply(workload);
      entry.comparedAtMs = performance.now();
    } catch (error) {
      entry.comparedAtMs = performance.now();
      if (isNew && !isWorthRetrying(error)) this.#forget(entry);
      else this.#watch(entry, this.#pauseBefore(entry));
      throw error;
    }
    await host.setAddresses(this.#addresses());
  }

  /** The rules of a namespace that an earlier run captured were removed: probes of the host go there themselves at once. */
  async leftIsGone(netnsInode: number): Promise<void> {
    this.left.remove(netnsInode);
    await this.#host?.setAddresses(this.#addresses());
  }

  /** Whether rules of an agent are in the namespace at this path, with this inode. False when that cannot be seen. */
  async isRuled(netnsPath: string, netnsInode: number): Promise<boolean> {
    try {
      const backend = await this.#findBackend();
      const { fd, inode } = openNetns(netnsPath);
      try {
        return inode === netnsInode && isRuled(await readInstalled({ runner: this.#runner, backend, netnsFd: fd }));
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      this.#log.warn({ netns: netnsPath, err: error }, 'capture: cannot read the rules that an earlier run left');
      return false;
    }
  }

  /**
   * Stops capturing a workload. When this resolves, new connections bypass the agent. The rules that keep the agent's
   * open connections there alive stay (`draining`) and are removed when those have ended.
   */
  async release(name: WorkloadName): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    try {
      await entry.capture.release({ keepsConnections: true });
    } finally {
      // Whether it drains or failed, check it again soon.
      if (entry.capture.state === 'gone') this.#forget(entry);
      else this.#watch(entry, this.#pauseBefore(entry));
    }
    await this.#host?.setAddresses(this.#addresses());
  }

  /**
   * Stops managing this namespace, whether captured or draining, and leaves its rules: another workload that names it is
   * applied next. Does nothing when the workload has another namespace.
   */
  async letGo(name: WorkloadName, netnsInode: number): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry?.capture.inode !== netnsInode) return;
    this.#forget(entry);
    await entry.capture.stop();
  }

  /** Removes all rules from all namespaces and the host at once, for an agent that is being uninstalled. */
  async releaseAll(): Promise<void> {
    const problems: unknown[] = [];
    const releases = [...this.#entries.values()].map(async (entry) => {
      try {
        await entry.capture.release({ keepsConnections: false });
        this.#forget(entry);
      } catch (error) {
        problems.push(error);
      }
    });
    await Promise.all(releases);
    await this.#host?.remove().catch((error: unknown) => problems.push(error));
    if (problems.length > 0) throw problems[0];
  }

  /** Tests, compares and repairs one workload now. Returns `gone` for one that is not captured. */
  async check(name: WorkloadName): Promise<CheckResult> {
    const entry = this.#entries.get(name);
    return entry === undefined ? 'gone' : await this.#checkEntry(entry, true);
  }

  /** Compares and repairs the host's rules for probes now. Never throws; see {@link hostProblem}. */
  async checkHost(): Promise<void> {
    await this.#host?.check({ isForced: true });
  }

  /** All workloads, sorted by name. */
  status(): CaptureStatus[] {
    return [...this.#entries.values()]
      .map(({ capture }) => capture.status())
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** What is wrong with the host's rules for probes; null: nothing. */
  hostProblem(): string | null {
    return this.#host?.problem ?? null;
  }

  /** Why other sockets on the agent's ports may get the connections of a workload; null: they get none. */
  guardProblem(): string | null {
    return this.#firstOf('guardProblem');
  }

  /** Why a process with CAP_NET_RAW can leave the capture of a workload, or the agent cannot; null: neither. */
  exemptionProblem(): string | null {
    if ('problem' in this.#cgroup) return `a process with CAP_NET_RAW can leave capture: ${this.#cgroup.problem}`;
    return movedFrom(this.#cgroup) ?? this.#sharedProblem ?? this.#firstOf('exemptionProblem');
  }

  /**
   * Call it often: when the agent was moved to another cgroup, its rules are loaded for that one, because until then what it
   * opens is refused. Resolves when that is done, or is left to the checks, with the inode of the cgroup that rules name now
   * (null: they name none); undefined: it was not moved. Never throws.
   */
  async followCgroup(): Promise<number | null | undefined> {
    const moved = this.#place === null ? null : lookForMove(this.#place);
    if (moved === null) return undefined;
    const { place, found, sharedProblem } = moved;
    this.#log.warn(
      { from: this.#place?.path, to: place.path, problem: 'problem' in found ? found.problem : sharedProblem },
      'the agent was moved to another cgroup: its rules are loaded again for that one',
    );
    [this.#place, this.#cgroup, this.#sharedProblem] = [place, found, sharedProblem];
    const path = this.#ownCgroup;
    await Promise.all([
      ...[...this.#entries.values()].map(({ capture }) => capture.exempt(path)),
      this.#host?.exempt(path),
    ]);
    return path === null ? null : place.inode;
  }

  get #ownCgroup(): string | null {
    return 'path' in this.#cgroup ? this.#cgroup.path : null;
  }

  #firstOf(kind: 'guardProblem' | 'exemptionProblem'): string | null {
    const [first] = this.status().filter((status) => status[kind] !== null);
    return first === undefined ? null : `${first.name}: ${first[kind]}`;
  }

  /** Stops monitoring. Rules stay as they are (fail closed), but running drains are completed now. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#pollTimer);
    clearTimeout(this.#hostTimer);
    await this.#host?.stop();
    // At the same time: each may wait for its last connections, and a successor waits for all.
    await Promise.all([...this.#entries.values()].map((entry) => this.#end(entry)));
  }

  async #end({ timer, capture }: Entry): Promise<void> {
    clearTimeout(timer);
    await capture.stop();
    if (capture.state !== 'draining') return;
    await capture.release({ keepsConnections: false }).catch((error: unknown) => {
      this.#log.error({ err: error, workload: capture.workload.name }, 'capture: the drain could not be completed');
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #prepare(): Promise<{ backend: NetfilterBackend; host: HostCapture }> {
    this.#parts ??= this.#detect();
    try {
      return await this.#parts;
    } catch (error) {
      this.#parts = undefined;
      throw error;
    }
  }

  async #findBackend(): Promise<NetfilterBackend> {
    this.#backend ??= detectBackend(this.#runner);
    try {
      return await this.#backend;
    } catch (error) {
      // A missing program can be installed while the agent runs.
      this.#backend = undefined;
      throw error;
    }
  }

  async #detect(): Promise<{ backend: NetfilterBackend; host: HostCapture }> {
    const backend = await this.#findBackend();
    this.#log.info({ iptables: backend.iptables[4], kind: backend.kind }, 'capture uses this iptables');
    this.#host = new HostCapture({
      runner: this.#runner,
      backend,
      log: this.#log,
      onRepair: this.#onRepair,
      netnsFd: null,
      idleCompareIntervalMs: this.#settings.idleCompareIntervalMs,
      probers: this.#probers,
      ownCgroup: this.#ownCgroup,
    });
    this.#watchHost(this.#host);
    return { backend, host: this.#host };
  }

  /** Returns the inode of the namespace, after checking that it may be captured. */
  #admit(workload: CapturedNetns): number {
    const { fd, inode } = openNetns(workload.netnsPath);
    closeSync(fd);
    if (inode === ownNetnsInode()) {
      throw new CulvertError({
        code: 'CAPTURE_OWN_NETNS',
        message: `workload ${workload.name} names the agent's own network namespace (${workload.netnsPath})`,
        hint: 'a workload needs its own network namespace: fix spec.netns',
      });
    }
    for (const [name, { capture }] of this.#entries) {
      if (name === workload.name || capture.inode !== inode || capture.state === 'gone') continue;
      throw new CulvertError({
        code: 'CAPTURE_NETNS_SHARED',
        message: `workloads ${name} and ${workload.name} name the same network namespace`,
        hint: 'workloads are distinguished by their namespace: give each its own, or register only one workload',
      });
    }
    return inode;
  }

  #newEntry(workload: CapturedNetns, inode: number, backend: NetfilterBackend): Entry {
    const capture = new NamespaceCapture({
      runner: this.#runner,
      backend,
      settings: this.#settings,
      log: this.#log,
      onRepair: this.#onRepair,
      workload,
      inode,
      ownCgroup: this.#ownCgroup,
      ownership: this.#ownership,
    });
    const comparedAtMs = Number.NEGATIVE_INFINITY;
    const entry: Entry = { capture, timer: undefined, comparedAtMs, isTouched: false, failures: 0 };
    this.#entries.set(workload.name, entry);
    this.left.remove(inode);
    // Spread over time, however the workloads were applied.
    this.#watch(entry, Math.random() * this.#settings.selfTestIntervalMs);
    return entry;
  }

  #forget(entry: Entry): void {
    clearTimeout(entry.timer);
    void entry.capture.stop();
    const { name } = entry.capture.workload;
    if (this.#entries.get(name) === entry) this.#entries.delete(name);
  }

  /**
   * What the host's probers open to these goes to the agent. Documents may name any address, of the controller too: only those
   * count that the workload's namespace has and the host does not.
   */
  #addresses(): CapturedNetns['addresses'] {
    if (this.#probers.length === 0) return [];
    const hostPath = '/proc/self/ns/net';
    const own = [...this.#entries.values()]
      .filter(({ capture: { state, workload } }) =>
        state === 'captured' ? workload.isClosed !== true : state === 'failed',
      )
      .flatMap(({ capture: { workload } }) => addressesOnlyThere({ ...workload, hostPath }));
    return [...own, ...this.left.addresses(hostPath)].toSorted();
  }

  /** Collects the changes that the kernel reported since the last poll. */
  #poll(): void {
    for (const entry of this.#entries.values()) {
      if (entry.isTouched || !entry.capture.takeChanges()) continue;
      entry.isTouched = true;
      this.#watch(entry, this.#pauseBefore(entry));
    }
  }

  #watch(entry: Entry, delayMs: number): void {
    if (this.#isClosed) return;
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => {
      const isDue = performance.now() >= this.#compareDueAtMs(entry);
      const isFull = entry.isTouched || entry.capture.isUnsettled || isDue;
      void this.#checkEntry(entry, isFull).then(() => {
        if (this.#entries.get(entry.capture.workload.name) === entry) this.#watch(entry, this.#pauseBefore(entry));
      });
    }, delayMs);
    entry.timer.unref();
  }

  /** Until the next self-test, or until the next comparison if that is sooner. */
  #pauseBefore(entry: Entry): number {
    const nowMs = performance.now();
    const { selfTestIntervalMs, idleSelfTestIntervalMs } = this.#settings;
    if (entry.capture.isUnsettled) {
      // Soon, and ever more rarely where it fails every time.
      const pauseMs = Math.min(
        minComparePauseMs * 2 ** entry.failures,
        Math.max(minComparePauseMs, selfTestIntervalMs),
      );
      return Math.max(minPauseMs, entry.comparedAtMs + pauseMs - nowMs);
    }
    if (entry.isTouched) return Math.max(0, entry.comparedAtMs + minComparePauseMs - nowMs);
    const isQuiet = entry.capture.reportsChanges && entry.capture.state === 'captured';
    const selfTestInMs = isQuiet ? Math.max(selfTestIntervalMs, idleSelfTestIntervalMs) : selfTestIntervalMs;
    return Math.max(minPauseMs, Math.min(selfTestInMs, this.#compareDueAtMs(entry) - nowMs));
  }

  #compareDueAtMs({ capture, comparedAtMs }: Entry): number {
    const { compareIntervalMs, idleCompareIntervalMs } = this.#settings;
    return comparedAtMs + (capture.reportsChanges ? idleCompareIntervalMs : compareIntervalMs);
  }

  async #checkEntry(entry: Entry, isFull: boolean): Promise<CheckResult> {
    if (isFull) {
      entry.isTouched = false;
      entry.comparedAtMs = performance.now();
    }
    const result = await entry.capture.check({ isFull });
    entry.failures = entry.capture.isUnsettled ? entry.failures + 1 : 0;
    if (entry.capture.state === 'gone' && this.#entries.get(entry.capture.workload.name) === entry) {
      this.#forget(entry);
      await this.#host?.setAddresses(this.#addresses());
    }
    return result;
  }

  #watchHost(host: HostCapture): void {
    if (this.#isClosed) return;
    this.#hostTimer = setTimeout(() => {
      void host
        .setAddresses(this.#addresses())
        .then(() => host.check({ isForced: false }))
        .then(() => this.#watchHost(host));
    }, this.#settings.compareIntervalMs);
    this.#hostTimer.unref();
  }
}

function isWorthRetrying(error: unknown): boolean {
  return error instanceof CulvertError && (error.code === 'CAPTURE_RULES' || error.code === 'CAPTURE_TOOL');
}
