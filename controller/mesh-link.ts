import type { Bus } from '../shared/bus/bus.js';
import { buckets } from '../shared/bus/subjects.js';
import { describeError } from '../shared/errors.js';
import type { SigningKey } from '../shared/pki/signing-key.js';
import type { PendingTask } from './api/api-types.js';
import type { ControllerMetrics } from './api/controller-metrics.js';
import type { FlowHistory } from './flows/flow-history.js';
import { Distribution } from './publish/distribution.js';
import type { EnrolmentPublisher } from './publish/enrolment-publisher.js';
import type { StatementPublisher } from './publish/statement-publisher.js';
import { serveAgents, type AgentServicesInit } from './fleet/agent-services.js';
import { ConsumerSweep } from './nats/consumer-sweep.js';
import type { MeshNats } from './nats/mesh-nats.js';
import { encodeTrustHint, trustHintKey, type TrustHint } from '../shared/wire/trust-hint.js';
import type { NodeName } from '../shared/routing/names.js';
import type { ResourceStore } from './store/resource-store.js';
import { StoreReconciler } from './store/store-reconciler.js';

export type MeshLinkInit = Omit<AgentServicesInit, 'bus' | 'signingKeyPem' | 'onBadRequest' | 'onRenewed'> & {
  readonly nats: MeshNats;
  readonly store: ResourceStore;
  readonly flows: FlowHistory;
  readonly signingKey: SigningKey;
  readonly metrics: ControllerMetrics;
  /** The roots that are trusted now. */
  readonly trustHint: () => TrustHint;
  readonly statements: StatementPublisher;
  /** Null: no cluster is followed. */
  readonly enrolments: EnrolmentPublisher | null;
};

/**
 * The controller's side of NATS: connects and retries until it succeeds, keeps the buckets in step with the store, and
 * answers agents. Everything that does not need NATS works meanwhile.
 */
export class MeshLink implements AsyncDisposable {
  /** Resolves when the buckets match the store for the first time. */
  readonly settled: Promise<void>;
  readonly #init: MeshLinkInit;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;
  #resolveSettled: () => void = () => undefined;
  #bus: Bus | undefined;
  #sweep: ConsumerSweep | undefined;
  #reconciler: StoreReconciler | undefined;
  /** Why NATS is not connected, for people. */
  #problem = 'not connected yet';

  constructor(init: MeshLinkInit) {
    this.#init = init;
    this.settled = new Promise((resolve) => {
      this.#resolveSettled = resolve;
    });
    this.#running = this.#run().catch((error: unknown) => {
      if (this.#abort.signal.aborted) return;
      this.#problem = describeError(error);
      init.log.error({ err: error }, 'the link to NATS failed for good: restart the controller');
    });
  }

  get isConnected(): boolean {
    return this.#bus?.status === 'connected';
  }

  /** What is missing before agents can be served, for /readyz. */
  get pending(): PendingTask[] {
    const { problem } = this.#init.nats;
    const tasks: PendingTask[] = problem === null ? [] : [problem];
    if (!this.isConnected) tasks.push({ name: 'nats', detail: this.#problem });
    if (!this.#init.store.isSettled) {
      tasks.push({ name: 'store', detail: this.#reconciler?.problem ?? 'NATS does not hold the applied revision yet' });
    }
    return tasks;
  }

  /** Removes what nodes leave in NATS and no agent needs. The owner calls it from time to time. Never rejects. */
  async sweep(): Promise<void> {
    await this.#sweep?.sweep();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#init.store.idle();
    this.#abort.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { nats, store, statements, enrolments, members, agents, log } = this.#init;
    const { signal } = this.#abort;
    await using bus = await nats.connect(signal, (error) => this.#onProblem(error));
    this.#bus = bus;
    this.#problem = `disconnected from ${bus.server}`;
    log.info({ server: bus.server }, 'connected to NATS');
    // A node that joined a controller of a version before is known by its heartbeats until it renews.
    const isMember = (node: NodeName): boolean => members.has(node) || (agents.has(node) && !members.isRemoved(node));
    using sweep = new ConsumerSweep({ bus, isMember, log });
    this.#sweep = sweep;
    const { publicKey } = this.#init.signingKey;
    store.attach(new Distribution({ bus, publicKeyPem: publicKey, onPublished: () => statements.noteChange() }));
    this.#reconciler = new StoreReconciler({ store, bus, log, signal, afterSettling: () => this.#afterSettling(bus) });
    const stopServing = this.#serve(bus);
    await Promise.all([
      this.#reconciler.run(),
      statements.run(bus, signal),
      enrolments?.run(bus, signal),
      this.#init.flows.follow(bus, signal),
      nats.watch(bus, signal),
    ]);
    stopServing();
  }

  /** An outage repeats the same error every few seconds; it is logged as a warning once, and again when it changes. */
  #onProblem(error: unknown): void {
    const problem = describeError(error);
    this.#init.log[problem === this.#problem ? 'debug' : 'warn']({ err: error }, 'NATS');
    this.#problem = problem;
  }

  /** Makes the bucket of heartbeats again: it may have been wiped with the others. */
  async #afterSettling(bus: Bus): Promise<void> {
    const create = { history: 1, maxBytes: -1, replicas: 1 } as const;
    await this.#init.agents.attach(await bus.bucket(buckets.status, { create }));
    await this.#publishTrustHint(bus);
    this.#resolveSettled();
  }

  /** So that running agents learn in seconds that the roots have changed. */
  async #publishTrustHint(bus: Bus): Promise<void> {
    const bucket = await bus.bucket(buckets.rules);
    const hint = encodeTrustHint(this.#init.trustHint());
    const published = await bucket.get(trustHintKey);
    if (published === undefined || Buffer.compare(published.value, hint) !== 0) await bucket.put(trustHintKey, hint);
  }

  #serve(bus: Bus): () => void {
    const {
      signing,
      credentials,
      agents,
      members,
      flows,
      enrolments,
      signingKey,
      log,
      metrics,
      trustDomain,
      rootsPem,
      nowMs,
      lifetimes,
    } = this.#init;
    return serveAgents({
      bus,
      signing,
      credentials,
      agents,
      members,
      flows,
      enrolments,
      trustDomain,
      rootsPem,
      nowMs,
      lifetimes,
      signingKeyPem: signingKey.privateKey,
      log,
      onBadRequest: (verb) => metrics.badAgentRequest(verb),
      onRenewed: () => metrics.nodeRenewed(),
    });
  }
}
