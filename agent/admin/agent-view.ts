import type { WorkloadCapture } from '../capture/workload-capture.js';
import { CulvertError } from '../../shared/errors.js';
import type { Heartbeat } from '../../shared/wire/requests.js';
import { filesProblem } from '../config/open-files.js';
import type { Cni } from '../control/cni/cni.js';
import type { ControlPlane } from '../control/control-plane.js';
import type { ProtectedWorkload } from '../control/workloads/refusals.js';
import { maxAlarmLength } from '../control/workloads/reported-workload.js';
import type { AgentSocket } from '../control/succession/agent-socket.js';
import { EjectionBoard } from '../telemetry/ejection-board.js';
import type { FlowPublisher } from '../telemetry/flows/flow-publisher.js';
import type { ProbeSockets } from '../dataplane/pool/probe-sockets.js';
import type { WorkerPool } from '../dataplane/pool/worker-pool.js';
import type { ObservedState } from '../telemetry/state-gauges.js';
import type { AgentEndpoints } from './agent-endpoints.js';
import { isServing, notListening } from './serving.js';
import { readiness, type ReadinessReport } from './readiness.js';
import type { NodeName, WorkloadName } from '../../shared/routing/names.js';

/** What is known before any part of the agent runs. */
export type AgentFacts = {
  readonly node: NodeName;
  readonly version: string;
  readonly startedAtMs: number;
  readonly workersWanted: number;
  readonly maxConnectionsPerWorkload: number;
  readonly maxWaitingBytesPerWorkload: number;
  readonly capture: WorkloadCapture;
  /** The setting, as it is written. */
  readonly hostProbes: readonly string[];
  /** Why the fail mode that the settings name has no effect; null: it has. */
  readonly failModeProblem: string | null;
};

/** The agent's state as seen from outside, at every stage of its start. Pool and plane appear after the join. */
export class AgentView {
  readonly #init: AgentFacts;
  readonly #filesProblem: string | null;
  readonly #ejections = new EjectionBoard();
  pool: WorkerPool | null = null;
  plane: ControlPlane | null = null;
  flows: FlowPublisher | null = null;
  /** Null where no program of the host may probe. */
  probeSockets: ProbeSockets | null = null;
  agentSocket: Pick<AgentSocket, 'problem'> | null = null;
  endpoints: AgentEndpoints | null = null;
  /** Null where no CNI plugin asks. */
  cni: Cni | null = null;
  joinProblem: string | null = null;

  constructor(init: AgentFacts) {
    this.#init = init;
    this.#filesProblem = filesProblem(init);
  }

  /** Of the data plane, from now on. */
  follow(pool: WorkerPool): void {
    this.pool = pool;
    pool.on('report', (report, workerIndex) => this.#ejections.report(report, workerIndex));
    pool.on('workerLost', (workerIndex) => this.#ejections.workerLost(workerIndex));
  }

  /** Throws `BUS_DISCONNECTED` before the join: what needs it is tried again. */
  get startedPlane(): ControlPlane {
    if (this.plane !== null) return this.plane;
    throw new CulvertError({
      code: 'BUS_DISCONNECTED',
      message: 'the control plane has not started yet',
      hint: 'wait: the agent is starting',
    });
  }

  readiness(): ReadinessReport {
    return readiness({
      isJoined: this.plane !== null,
      joinProblem: this.joinProblem,
      isNatsConnected: this.plane?.isConnected ?? false,
      natsProblem: this.plane?.linkProblem ?? null,
      appliedRevision: this.plane?.appliedRevision ?? null,
      enforcedRevision: this.pool?.enforcedRevision ?? null,
      isRegistryComplete: this.plane?.isRegistryComplete ?? false,
      missingEntries: this.plane?.registryGaps.missing ?? 0,
      unreadableEntries: this.plane?.registryGaps.unreadable ?? 0,
      workers: this.#workers(),
      workloads: this.#workloads(),
      alarms: this.plane?.alarms ?? null,
      rulesAgeProblem: this.plane?.rulesAge.problem ?? null,
      isRefusingOldRules: this.plane?.rulesAge.isRefusing ?? false,
      credentialsProblem: this.plane?.credentialsProblem ?? null,
      hostRulesProblem: this.#hostProblem(),
      guardProblem: this.#init.capture.guardProblem(),
      exemptionProblem: this.#init.capture.exemptionProblem(),
      watchProblem: this.plane?.watchProblem ?? null,
      stateProblem: this.plane?.stateProblem ?? null,
      successionProblem: this.agentSocket?.problem ?? null,
      endpointProblem: this.endpoints?.problem ?? null,
      filesProblem: this.#filesProblem,
      failModeProblem: this.#init.failModeProblem,
      nowMs: Date.now(),
    });
  }

  /** For heartbeats: names of what /readyz lists as pending, what capture here cannot promise, who may probe, what is ejected. */
  said(): Pick<Heartbeat, 'pending' | 'weaknesses' | 'hostProbes' | 'cniProblem' | 'knowsEnrolment' | 'ejected'> {
    const { capture, hostProbes } = this.#init;
    const watchProblem = this.plane?.watchProblem ?? null;
    const weaknesses = [
      capture.guardProblem(),
      capture.exemptionProblem(),
      watchProblem,
      this.cni?.problem ?? null,
      this.#filesProblem,
    ].filter((it) => it !== null);
    const ejected = this.#ejections.told();
    return {
      ...(ejected.length === 0 ? {} : { ejected }),
      pending: this.readiness().pending.map(({ name }) => name),
      ...(hostProbes.length === 0 ? {} : { hostProbes: [...hostProbes] }),
      ...(this.cni === null ? {} : { cniProblem: this.cni.problem?.slice(0, maxAlarmLength) ?? null }),
      ...(this.cni?.knowsEnrolment === true ? { knowsEnrolment: true } : {}),
      ...(weaknesses.length === 0 ? {} : { weaknesses: weaknesses.map((text) => text.slice(0, maxAlarmLength)) }),
    };
  }

  /** See {@link isServing}. What is new must be served too. */
  isServing(): boolean {
    return this.#hasRules() && this.plane?.reconciler.isStuck !== true && isServing(this.#workloads());
  }

  /** See {@link notListening}. */
  notListening(servedBefore: ReadonlySet<number>): string | null {
    const { plane, pool } = this;
    if (plane === null || pool === null || !this.#hasRules()) return 'the rules of the mesh are not known yet';
    return notListening({ workloads: plane.workloads(), servedBefore, listeningOf: (name) => pool.listeningOf(name) });
  }

  /** Returns a function to call after each change. The first time {@link isServing} holds then, it calls back, once. */
  announceServing(callback: (() => void) | undefined): () => void {
    let isDone = callback === undefined;
    return () => {
      if (isDone || !this.isServing()) return;
      isDone = true;
      callback?.();
    };
  }

  /** False if no data-plane worker runs although there should be some. */
  isAlive(): boolean {
    return this.pool === null || this.plane === null || this.pool.workersOnline.online > 0;
  }

  /** For the admin endpoint; without secrets. */
  dump(): object {
    return {
      version: this.#init.version,
      startedAt: new Date(this.#init.startedAtMs).toISOString(),
      readiness: this.readiness(),
      ...this.plane?.dump(),
      capture: this.#init.capture.status(),
      hostRulesProblem: this.#hostProblem(),
    };
  }

  /** Namespaces whose connection tracking and ports are worth measuring. */
  namespaces(): readonly { readonly workload: WorkloadName; readonly netnsPath: string }[] {
    return this.#workloads().flatMap(({ name, netnsPath }) =>
      netnsPath === null ? [] : [{ workload: name, netnsPath }],
    );
  }

  observed(): ObservedState {
    return {
      version: this.#init.version,
      node: this.#init.node,
      appliedRevision: () => this.plane?.appliedRevision ?? null,
      enforcedRevision: () => this.pool?.enforcedRevision ?? null,
      rulesAgeMs: () => this.plane?.rulesAge.ageMs ?? null,
      isNatsConnected: () => this.plane?.isConnected ?? false,
      registryEntries: () => this.plane?.registryCounts() ?? { workloads: 0, services: 0 },
      certificates: () => this.plane?.certificates() ?? [],
      nodeCertificateNotAfterMs: () => this.plane?.credentials.notAfterMs ?? null,
      workloads: () => {
        const all = this.#workloads();
        const captured = all.filter((workload) => workload.captured);
        const unheard = captured.filter((workload) => !workload.isListening).length;
        return { captured: captured.length, pending: all.length - captured.length, unheard };
      },
      workers: () => this.#workers(),
      maxConnectionsPerWorkload: this.#init.maxConnectionsPerWorkload,
      maxWaitingBytesPerWorkload: this.#init.maxWaitingBytesPerWorkload,
    };
  }

  #hostProblem(): string | null {
    return this.#init.capture.hostProblem() ?? this.probeSockets?.problem ?? null;
  }

  #hasRules(): boolean {
    return this.plane?.isRegistryComplete === true && this.pool !== null && this.pool.enforcedRevision !== null;
  }

  #workloads(): readonly ProtectedWorkload[] {
    return this.plane?.workloads() ?? [];
  }

  #workers(): { readonly online: number; readonly wanted: number } {
    return this.pool?.workersOnline ?? { online: 0, wanted: this.#init.workersWanted };
  }
}
