import { describeError } from '../../../shared/errors.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { Log } from '../../../shared/log.js';
import type { CapturedNetns } from '../../capture/firewall/captured-netns.js';
import type { LateAcceptState } from '../../dataplane/messages.js';
import type { CaptureLedger } from './capture-ledger.js';
import { HandOver } from './hand-over.js';
import { appliedText, capturedNetnsOf, lateDetail, lateRulesMissing, listenedFor, type Held } from './held-workload.js';
import { HeldWorkloads } from './held-workloads.js';
import { NamespaceWatch } from './namespace-watch.js';
import { namespacePath } from './network-namespace.js';
import type { Scheduler } from '../../thread/scheduler.js';
import { findWorkloadNamespaces } from './workload-namespaces.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import type { WantedWorkload } from './own-workloads.js';
import type { CaptureControl, ListenerControl } from './workload-controls.js';
import type { WorkloadStatus } from './workload-status.js';

const stuck = 'new namespaces are not captured: the work on another one does not end; restart the agent';
const queueOpening = 'the queue for connects to ports with earlyAccept: false is not open yet';
type Ready = { readonly held: Held; readonly entry: WantedWorkload };

const passIntervalMs = 2000;
/** The same while a new workload could not be closed, or opened: its loopback interface may come up at any moment. */
const openRetryMs = 250;
/** What fails for longer fails for another reason, and each try costs some tens of milliseconds. */
const openRetriesForMs = 10_000;
/** Between two attempts of the workers to open listeners that failed to open. */
const listenRetryMs = 5000;
/** Longer than a step takes on the slowest host. */
const longestStepMs = 180_000;
const captureConcurrency = 4;

/**
 * Brings this node's workloads into the mesh and out of it, in an order that leaves no gap:
 *
 * In: 1. the namespace exists → 2. it is closed: connections that begin wait → 3. a worker listens in it → 4. rules and the
 * certificate are in the workers → 5. the capture rules are loaded, which opens it → 6. the queue of late accept is open, and
 * the rules that send SYNs to it are loaded. Before step 2, traffic passes as it did without the mesh. From step 5 on none is
 * refused for lack of a listener, rules or certificate, for which it waits for at most `captureWaitMs`, and not at all when
 * listeners cannot be had: what the rules redirect is refused then. So workloads that come together never get plaintext from
 * each other: one is closed, or captured. A namespace that an earlier run of the agent captured still has its rules, so it
 * skips steps 2 and 4: every moment counts until something listens there again. Step 3 waits in the same way while the agent
 * before this one serves.
 * Where those rules exempt sockets of another cgroup than this run's, which a restarted unit has, step 5 comes first: what this
 * agent dials would be captured until then.
 *
 * Out: the capture rules first, then the listeners. If the namespace was replaced under the same name, the old one is
 * released and the new one starts at step 1. A workload that moved away or lost its entry is released, unless another one
 * names its namespace too: that one takes over the rules as they are.
 */
export class WorkloadReconciler {
  readonly #capture: CaptureControl;
  readonly #listeners: ListenerControl;
  readonly #scheduler: Scheduler;
  readonly #log: Log;
  readonly #captureWaitMs: number;
  readonly #isServable: (identity: SpiffeId) => boolean;
  readonly #isRegistryComplete: () => boolean;
  readonly #onChange: () => void;
  readonly #ownInode: number;
  readonly #handOver: HandOver;
  #wanted: ReadonlyMap<WorkloadName, WantedWorkload> | null = null;
  readonly #held: HeldWorkloads;
  readonly #watch: NamespaceWatch;
  readonly #problems = new Map<WorkloadName, string>();
  readonly #failed = new Set<WorkloadName>();
  /** Ports of which some destination in the mesh is accepted late. */
  #latePorts: readonly number[] = [];
  readonly #lateProblems = new Map<WorkloadName, string>();
  #sent = '';
  /** When the workers last received the list, as `Scheduler.elapsedMs` counts. */
  #sentAtMs = 0;
  #pass: Promise<void> | null = null;
  /** When the pass that runs got further last; null: none runs. */
  #stepAtMs: number | null = null;
  #isAgain = false;
  #cancelTimer: (() => void) | null = null;
  /** A namespace appeared since the pass began: what is new is closed before the pass goes on. */
  #hasNew = false;
  #isClosed = false;
  readonly #listeningFor = new Set<() => void>();

  constructor(init: {
    readonly capture: CaptureControl;
    readonly listeners: ListenerControl;
    readonly ledger: CaptureLedger;
    readonly scheduler: Scheduler;
    readonly log: Log;
    readonly captureWaitMs: number;
    /** Whether the workers have rules and a certificate of this identity. */
    readonly isServable: (identity: SpiffeId) => boolean;
    /** Whether the workers know every workload and service of the mesh. */
    readonly isRegistryComplete: () => boolean;
    /** The list of statuses may have changed. */
    readonly onChange: () => void;
    /** Inode of the agent's own namespace. */
    readonly ownInode: number;
    /** Inode of the cgroup in which the agent's sockets are made; null: none of its own. */
    readonly ownCgroup: number | null;
  }) {
    this.#capture = init.capture;
    this.#listeners = init.listeners;
    this.#scheduler = init.scheduler;
    this.#log = init.log;
    this.#captureWaitMs = init.captureWaitMs;
    this.#isServable = init.isServable;
    this.#isRegistryComplete = init.isRegistryComplete;
    this.#onChange = init.onChange;
    this.#ownInode = init.ownInode;
    this.#handOver = new HandOver(init);
    this.#held = new HeldWorkloads({ ...init, onDropped: (name) => this.#failed.delete(name) });
    this.#watch = new NamespaceWatch({ log: init.log, onChange: () => this.expectNamespace() });
    const takeCharge = (): void => {
      this.#handOver.takeCharge();
      this.reconcile();
    };
    // Otherwise the start failed, and its caller says so.
    void this.#capture.whenInCharge().then(takeCharge, () => undefined);
  }

  /**
   * The workloads of this node that must be captured, by `namespace/name`. The map is complete: all others are
   * released.
   */
  setWanted(wanted: ReadonlyMap<WorkloadName, WantedWorkload>): void {
    this.#wanted = wanted;
    this.#watch.follow([...wanted.values()].map(({ netns }) => namespacePath(netns ?? '')));
    this.reconcile();
  }

  /** In ascending order; empty: no destination is accepted late. */
  setLatePorts(ports: readonly number[]): void {
    this.#latePorts = ports;
    for (const held of this.#held.all) held.lateRulesProblem = null;
    this.reconcile();
  }

  /** Call when something that a workload may wait for has happened. Never throws; passes run one after another. */
  reconcile(): void {
    if (this.#isClosed || this.#wanted === null) return;
    this.#isAgain = true;
    this.#pass ??= this.#run();
  }

  /** Like {@link reconcile}, when a workload's namespace has just been made: it is closed before a pass that runs goes on. */
  expectNamespace(): void {
    this.#hasNew = true;
    this.reconcile();
  }

  /** What {@link setWanted} got; null: nothing yet. */
  get wanted(): ReadonlyMap<WorkloadName, WantedWorkload> | null {
    return this.#wanted;
  }

  /** Whether rules are in this namespace of the workload: its connections wait, or are captured. */
  protectionOf(
    name: WorkloadName,
    netnsInode: number,
  ): { readonly isProtected: boolean; readonly problem: string | null } {
    const held = this.#held.get(name);
    const isHeld = held?.netnsInode === netnsInode;
    const problem = isHeld && this.#failed.has(name) ? (this.#problems.get(name) ?? null) : null;
    return { isProtected: isHeld && (held.isClosed || held.hasRules), problem };
  }

  /** Calls back when a workload may have got rules, or could not get them, until the returned function is called. */
  onProgress(callback: () => void): () => void {
    this.#listeningFor.add(callback);
    return () => this.#listeningFor.delete(callback);
  }

  /** Why a new namespace may be found late; null: it is found at once. */
  get watchProblem(): string | null {
    return this.isStuck ? stuck : this.#watch.problem;
  }

  /** Whether the work on some namespace does not end, so that no other one is brought in. */
  get isStuck(): boolean {
    return this.#stepAtMs !== null && this.#scheduler.elapsedMs() - this.#stepAtMs > longestStepMs;
  }

  statuses(): readonly WorkloadStatus[] {
    return [...(this.#wanted ?? new Map<WorkloadName, WantedWorkload>())].map(([name, entry]) => {
      const held = this.#held.get(name);
      return {
        name,
        identity: entry.identity,
        netnsPath: held?.netnsPath ?? null,
        captured: held?.applied != null,
        problem: this.#problems.get(name) ?? this.#capture.problemOf(name),
        hasFailed: this.#failed.has(name),
        isListening: this.#listeners.isListening(name),
        waitsForCharge: held !== undefined && this.#handOver.waitsForCharge(held, this.#mayBeServed(entry)),
        lateAcceptProblem: this.#lateProblems.get(name) ?? lateRulesMissing(held, this.#latePorts),
        addresses: entry.addresses,
        captureProblem: this.#capture.problemOf(name),
      };
    });
  }

  /** Ends the passes; one that runs ends when the namespaces that it works on now are done. Captured workloads stay captured. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#watch.close();
    this.#cancelTimer?.();
    await this.#pass;
  }

  /** Call after {@link close}: releases every workload, capture rules first. */
  async releaseAll(): Promise<void> {
    await this.#held.releaseAll();
  }

  async #run(): Promise<void> {
    this.#cancelTimer?.();
    while (this.#isAgain && !this.#isClosed) {
      this.#isAgain = false;
      this.#stepAtMs = this.#scheduler.elapsedMs();
      try {
        await this.#onePass(this.#held.located(this.#wanted ?? new Map<WorkloadName, WantedWorkload>()));
      } catch (error) {
        this.#log.error({ err: error }, 'workloads could not be reconciled; retrying');
      }
    }
    this.#pass = null;
    this.#stepAtMs = null;
    this.#onChange();
    this.#tellProgress();
    if (this.#isClosed) return;
    const sinceMs = this.#scheduler.elapsedMs() - openRetriesForMs;
    const isStuck = this.#held.all.some(
      (held) => !held.hasRules && held.sinceMs > sinceMs && this.#failed.has(held.name),
    );
    this.#cancelTimer = this.#scheduler.after(isStuck ? openRetryMs : passIntervalMs, () => this.reconcile());
  }

  async #onePass(wanted: ReadonlyMap<WorkloadName, WantedWorkload>): Promise<void> {
    this.#hasNew = false;
    this.#watch.retry();
    const { found, problems } = findWorkloadNamespaces(wanted, {
      ownInode: this.#ownInode,
      holders: this.#held.holders,
    });
    for (const problem of [this.#problems, this.#lateProblems]) {
      for (const name of problem.keys()) if (!wanted.has(name)) problem.delete(name);
    }
    for (const [name, problem] of problems) this.#complain(name, problem);
    await this.#held.follow(found, (name) => wanted.has(name));
    this.#sendWorkloads(wanted);
    if (!this.#handOver.isInCharge || this.#isClosed) return;
    await this.#held.followCgroup();
    const withEntry = (isNext: (held: Held, entry: WantedWorkload) => boolean): Ready[] =>
      this.#held.all.flatMap((held): Ready[] => {
        const entry = wanted.get(held.name);
        return entry !== undefined && isNext(held, entry) ? [{ held, entry }] : [];
      });
    await Promise.all(withEntry(({ hasRules, isClosed }) => !hasRules && !isClosed).map((each) => this.#close(each)));
    await this.#held.removeLeftovers(() => this.#isClosed || this.#hasNew);
    const ready = withEntry((held, entry) => this.#isReady(held, entry));
    for (let index = 0; index < ready.length; index += captureConcurrency) {
      // A successor waits, or a namespace that nothing has closed yet.
      if (this.#isClosed || this.#hasNew) break;
      const batch = ready.slice(index, index + captureConcurrency);
      await Promise.all(batch.map(({ held, entry }) => this.#bringIn(held, entry)));
      this.#stepAtMs = this.#scheduler.elapsedMs();
      if (!this.#isClosed) this.#sendWorkloads(wanted);
    }
    if (!this.#isClosed) this.#sendWorkloads(wanted);
  }

  #sendWorkloads(wanted: ReadonlyMap<WorkloadName, WantedWorkload>): void {
    for (const held of this.#held.all) {
      held.isListenedFor ||= this.#handOver.mayListen(held, this.#mayBeServed(wanted.get(held.name)));
    }
    const listening = this.#held.all.filter((held) => held.isListenedFor);
    const workloads = listening.map((held) => listenedFor(held, this.#latePorts));
    const text = JSON.stringify(workloads);
    const atMs = this.#scheduler.elapsedMs();
    const isRetry = atMs - this.#sentAtMs >= listenRetryMs && workloads.some(({ name }) => this.#hasFailed(name));
    if (text === this.#sent && !isRetry) return;
    this.#sent = text;
    this.#sentAtMs = atMs;
    this.#listeners.setWorkloads(workloads);
  }

  #mayBeServed(entry: WantedWorkload | undefined): boolean {
    return entry === undefined || (this.#isRegistryComplete() && this.#canBeServed(entry));
  }

  /**
   * What kept the port (another program, or a lack of descriptors) may be gone. Workers retry when they get the list
   * again.
   */
  #hasFailed(name: WorkloadName): boolean {
    const listening = this.#listeners.listeningOf(name);
    return listening !== null && (listening.error !== null || listening.late.problem !== null);
  }

  /** Whether steps 2 and 3 are done, or are waited for no longer. */
  #isReady(held: Held, entry: WantedWorkload): boolean {
    if (this.#handOver.isLoadedFirst(held)) return true;
    const listening = this.#listeners.listeningOf(held.name);
    const hasWaited = this.#scheduler.elapsedMs() - held.sinceMs >= this.#captureWaitMs;
    if (listening === null || listening.netnsInode !== held.netnsInode) {
      this.#complain(held.name, 'its listeners are not open yet');
      return hasWaited && held.applied === null;
    }
    if (listening.error !== null) {
      this.#complainOfFailure(held.name, `its listeners could not be opened: ${listening.error}`);
      return true;
    }
    // Its traffic is ruled meanwhile, and rules without the queue would accept early what was accepted late so far.
    if (held.wasCaptured && held.applied === null && this.#isQueueOpening(listening.late)) {
      this.#complain(held.name, queueOpening);
      return false;
    }
    // One whose entry cannot be read waits for nothing that would come.
    if (held.applied !== null || entry.identity === null || this.#canBeServed(entry)) return true;
    if (hasWaited || (held.mayHaveRules && !held.isClosed)) return true;
    this.#complain(held.name, 'it is waiting for rules and its certificate');
    return false;
  }

  /** A pod's addresses come a moment after its sandbox, and without them all that it sends would be refused. */
  #canBeServed({ identity, addresses }: WantedWorkload): boolean {
    return identity !== null && addresses.length > 0 && this.#isServable(identity);
  }

  /** One that cannot be closed is captured as soon as something listens, unless closing succeeds before. */
  async #close({ held, entry }: Ready): Promise<void> {
    const workload = { ...capturedNetnsOf(held, entry), isClosed: true as const };
    try {
      await this.#held.remember(held, workload);
      await this.#capture.apply(workload);
      held.isClosed = true;
      this.#log.info({ workload: held.name, netns: held.netnsPath }, 'workload closed until it can be served');
    } catch (error) {
      this.#complainOfFailure(held.name, `it could not be closed: ${describeError(error)}`);
    }
    this.#tellProgress();
  }

  #tellProgress(): void {
    for (const each of this.#listeningFor) each();
  }

  async #bringIn(held: Held, entry: WantedWorkload): Promise<void> {
    const workload = capturedNetnsOf(held, entry);
    const latePorts = this.#applicableLatePorts(held);
    if (held.applied === appliedText(workload, latePorts)) return this.#forgive(held.name);
    try {
      await this.#held.remember(held, workload);
      const loaded = await this.#load(held, workload, latePorts);
      this.#log.info({ workload: held.name, netns: held.netnsPath }, 'workload captured');
      held.applied = appliedText(workload, loaded);
      held.hasRules = true;
      held.isClosed = false;
      held.exemptsOther = false;
      held.appliedLatePorts = loaded;
      this.#forgive(held.name);
    } catch (error) {
      this.#complainOfFailure(held.name, `it could not be captured: ${describeError(error)}`);
    }
  }

  #isQueueOpening({ isOpen, problem }: LateAcceptState): boolean {
    return this.#latePorts.length > 0 && !isOpen && problem === null;
  }

  /**
   * None where the queue cannot be opened, or is not open yet: a workload is captured without it, because until then no
   * rule applies to its traffic. All connections are accepted early meanwhile, and the status says so.
   */
  #applicableLatePorts(held: Held): readonly number[] {
    const { name, lateRulesProblem, hasLateRules } = held;
    const late = this.#listeners.listeningOf(name)?.late ?? { isOpen: false, problem: null };
    const problem = lateRulesProblem ?? late.problem;
    if (this.#latePorts.length > 0 && problem !== null) {
      this.#complainOfLate(name, problem);
      return [];
    }
    // Without a reader a SYN is sent again, and rules without the queue would accept early what was accepted late so far.
    if (!hasLateRules && !this.#handOver.isLoadedFirst(held) && this.#isQueueOpening(late)) {
      this.#complainOfLate(name, queueOpening, 'info');
      return [];
    }
    this.#lateProblems.delete(name);
    return this.#latePorts;
  }

  /**
   * Returns the ports whose connects are sent to the queue. Rules that iptables cannot load for late accept must not keep
   * the workload out of the mesh.
   */
  async #load(held: Held, workload: CapturedNetns, latePorts: readonly number[]): Promise<readonly number[]> {
    if (latePorts.length > 0) {
      held.hasLateRules = true;
      try {
        await this.#capture.apply({ ...workload, latePorts });
        return latePorts;
      } catch (error) {
        held.lateRulesProblem = `its rules could not be loaded: ${describeError(error)}`;
        this.#complainOfLate(held.name, held.lateRulesProblem);
      }
    }
    await this.#capture.apply(workload);
    if (held.hasLateRules) {
      held.hasLateRules = false;
      this.#isAgain = true;
    }
    return [];
  }

  #complainOfLate(name: WorkloadName, problem: string, level: 'info' | 'warn' = 'warn'): void {
    const detail = lateDetail(problem);
    if (this.#lateProblems.get(name) === detail) return;
    this.#lateProblems.set(name, detail);
    this.#log[level]({ workload: name, problem: detail }, 'late accept is not possible');
  }

  #complainOfFailure(name: WorkloadName, problem: string): void {
    this.#failed.add(name);
    this.#complain(name, problem);
  }

  #complain(name: WorkloadName, problem: string): void {
    if (this.#problems.get(name) === problem) return;
    this.#problems.set(name, problem);
    this.#log.info({ workload: name, problem }, 'workload not served yet');
  }

  #forgive(name: WorkloadName): void {
    if ((this.#listeners.listeningOf(name)?.error ?? null) !== null) return;
    this.#problems.delete(name);
    this.#failed.delete(name);
  }
}
