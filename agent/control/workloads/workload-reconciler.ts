import type { IpAddress } from '../../../shared/address.js';
import { describeError } from '../../../shared/errors.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { Log } from '../../../shared/log.js';
import type { CapturedNetns } from '../../capture/firewall/captured-netns.js';
import type { LateAcceptState } from '../../dataplane/messages.js';
import type { CaptureLedger } from './capture-ledger.js';
import { appliedText, capturedNetnsOf, lateDetail, lateRulesMissing, listenedFor, type Held } from './held-workload.js';
import { HeldWorkloads } from './held-workloads.js';
import { awaitedBy, sourcesLeftOpen } from './joint-arrival.js';
import { addressesThere } from './namespace-addresses.js';
import type { Scheduler } from '../../thread/scheduler.js';
import { findWorkloadNamespaces } from './workload-namespaces.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import type { WantedWorkload } from './own-workloads.js';
import type { CaptureControl, ListenerControl } from './workload-controls.js';
import type { WorkloadStatus } from './workload-status.js';

const queueOpening = 'the queue for connects to ports with earlyAccept: false is not open yet';
type Ready = { readonly held: Held; readonly entry: WantedWorkload };

const passIntervalMs = 2000;
/** Between two attempts of the workers to open listeners that failed to open. */
const listenRetryMs = 5000;
const captureConcurrency = 4;
/** Less than a successor has until it must listen (`taking-over.ts`). */
const longestHandOverWaitMs = 5000;

/**
 * Brings this node's workloads into the mesh and out of it, in an order that leaves no gap:
 *
 * In: 1. the namespace exists → 2. a worker listens in it → 3. rules and the certificate are in the workers → 4. the
 * capture rules are loaded → 5. the queue of late accept is open, and the rules that send SYNs to it are loaded. Before
 * step 4, traffic passes as it did without the mesh. From step 4 on none is refused for lack of a listener, rules or
 * certificate, for which it waits for at most `captureWaitMs`, and not at all when listeners cannot be had: what the rules
 * redirect is refused then. A namespace that an earlier run of the agent captured still has its rules, so it skips step 3:
 * every moment counts until something listens there again. Step 2 waits in the same way while the agent before this one serves.
 *
 * New workloads that come together are captured together, in two loads. After the first one only what they get from each
 * other is open, and only from those that send in plaintext still: what one of them sends never arrives at another whose
 * rules would refuse that, and nothing else passes.
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
  #isInCharge = false;
  #wanted: ReadonlyMap<WorkloadName, WantedWorkload> | null = null;
  readonly #held: HeldWorkloads;
  readonly #problems = new Map<WorkloadName, string>();
  readonly #failed = new Set<WorkloadName>();
  /** Ports of which some destination in the mesh is accepted late. */
  #latePorts: readonly number[] = [];
  readonly #lateProblems = new Map<WorkloadName, string>();
  #sent = '';
  /** When the workers last received the list. */
  #sentAtMs = 0;
  #pass: Promise<void> | null = null;
  #isAgain = false;
  #cancelTimer: (() => void) | null = null;
  #wakesInMs = passIntervalMs;
  #isClosed = false;

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
    this.#held = new HeldWorkloads({ ...init, onDropped: (name) => this.#failed.delete(name) });
    const takeCharge = (): void => {
      this.#isInCharge = true;
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
        lateAcceptProblem: this.#lateProblems.get(name) ?? lateRulesMissing(held, this.#latePorts),
        captureProblem: this.#capture.problemOf(name),
      };
    });
  }

  /** Ends the passes; one that runs ends when the namespaces that it works on now are done. Captured workloads stay captured. */
  async close(): Promise<void> {
    this.#isClosed = true;
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
      try {
        await this.#onePass(this.#wanted ?? new Map());
      } catch (error) {
        this.#log.error({ err: error }, 'workloads could not be reconciled; retrying');
      }
    }
    this.#pass = null;
    this.#onChange();
    if (!this.#isClosed)
      this.#cancelTimer = this.#scheduler.after(Math.min(passIntervalMs, this.#wakesInMs), () => this.reconcile());
  }

  async #onePass(wanted: ReadonlyMap<WorkloadName, WantedWorkload>): Promise<void> {
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
    if (!this.#isInCharge || this.#isClosed) return;
    await this.#held.removeLeftovers(() => this.#isClosed);
    const ready = this.#held.all.flatMap((held): Ready[] => {
      const entry = wanted.get(held.name);
      return entry !== undefined && this.#isReady(held, entry) ? [{ held, entry }] : [];
    });
    const arriving = ready.filter(({ held }) => !held.mayHaveRules);
    const isWaiting = this.#waitsForOthers(arriving.map(({ held }) => held));
    if (arriving.length > 1 && !isWaiting) {
      const sources = arriving.map(({ held, entry }) => {
        // What a document says opens nothing to a stranger.
        return { held, addresses: addressesThere(held.netnsPath, entry.addresses) };
      });
      await this.#inBatches(arriving, (each) => this.#captureFirst(each, sourcesLeftOpen(each.held.name, sources)));
      this.#sendWorkloads(wanted);
    }
    const now = isWaiting ? ready.filter((each) => !arriving.includes(each)) : ready;
    await this.#inBatches(now, ({ held, entry }) => this.#bringIn(held, entry));
    if (!this.#isClosed) this.#sendWorkloads(wanted);
  }

  /** See {@link awaitedBy}. */
  #waitsForOthers(ready: readonly Held[]): boolean {
    const coming = this.#held.all.filter((held) => !held.mayHaveRules && !ready.includes(held));
    const awaited = awaitedBy({ ready, coming, nowMs: this.#scheduler.nowMs() });
    this.#wakesInMs = awaited?.forMs ?? passIntervalMs;
    if (awaited === null) return false;
    for (const { name } of ready)
      this.#complain(name, `it is captured together with ${awaited.name}, which is not ready yet`);
    return true;
  }

  async #inBatches(all: readonly Ready[], step: (each: Ready) => Promise<void>): Promise<void> {
    for (let index = 0; index < all.length; index += captureConcurrency) {
      // A successor waits. What was begun is ended all the same.
      const batch = all.slice(index, index + captureConcurrency);
      await Promise.all(batch.filter(({ held }) => !this.#isClosed || held.isHalfCaptured).map(step));
    }
  }

  #sendWorkloads(wanted: ReadonlyMap<WorkloadName, WantedWorkload>): void {
    for (const held of this.#held.all) held.isListenedFor ||= this.#mayListen(held, wanted.get(held.name));
    const listening = this.#held.all.filter((held) => held.isListenedFor);
    const workloads = listening.map((held) => listenedFor(held, this.#latePorts));
    const text = JSON.stringify(workloads);
    const nowMs = this.#scheduler.nowMs();
    const isRetry = nowMs - this.#sentAtMs >= listenRetryMs && workloads.some(({ name }) => this.#hasFailed(name));
    if (text === this.#sent && !isRetry) return;
    this.#sent = text;
    this.#sentAtMs = nowMs;
    this.#listeners.setWorkloads(workloads);
  }

  /**
   * While another agent serves a workload on the same sockets, this one accepts nothing that it would have to refuse. When
   * what is missing does not come, the other agent is unlikely to have it either.
   */
  #mayListen({ sinceMs }: Held, entry: WantedWorkload | undefined): boolean {
    if (this.#isInCharge || entry === undefined) return true;
    if (this.#isRegistryComplete() && this.#canBeServed(entry)) return true;
    return this.#scheduler.nowMs() - sinceMs >= Math.min(this.#captureWaitMs, longestHandOverWaitMs);
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
    if (held.isHalfCaptured) return true;
    const listening = this.#listeners.listeningOf(held.name);
    const hasWaited = this.#scheduler.nowMs() - held.sinceMs >= this.#captureWaitMs;
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
    if (held.mayHaveRules || hasWaited) return true;
    this.#complain(held.name, 'it is waiting for rules and its certificate');
    return false;
  }

  #canBeServed({ identity }: WantedWorkload): boolean {
    return identity !== null && this.#isServable(identity);
  }

  /** A failure shows when the rest is loaded. */
  async #captureFirst({ held, entry }: Ready, openTo: readonly IpAddress[]): Promise<void> {
    const workload = { ...capturedNetnsOf(held, entry), ...(openTo.length > 0 ? { openTo } : {}) };
    held.isHalfCaptured = openTo.length > 0;
    try {
      await this.#held.remember(held, workload);
      await this.#load(held, workload, this.#applicableLatePorts(held));
      held.hasRules = true;
    } catch (error) {
      this.#log.debug({ workload: held.name, err: error }, 'the workload could not be captured; retrying');
    }
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
      held.isHalfCaptured = false;
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
  #applicableLatePorts({ name, lateRulesProblem, hasLateRules }: Held): readonly number[] {
    const late = this.#listeners.listeningOf(name)?.late ?? { isOpen: false, problem: null };
    const problem = lateRulesProblem ?? late.problem;
    if (this.#latePorts.length > 0 && problem !== null) {
      this.#complainOfLate(name, problem);
      return [];
    }
    if (!hasLateRules && this.#isQueueOpening(late)) {
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
