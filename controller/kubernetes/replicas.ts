import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { selectorOf } from '../install/install-options.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

/** A pod of a controller. */
type ReplicaPod = {
  readonly name: string;
  /** Null: it is on none yet, or that is not known. */
  readonly node: string | null;
};

/** Of several controllers with one Lease: which one serves, and which ones can take over. */
export type ReplicasState = {
  /** Name of the Lease. */
  readonly lease: string;
  /** This one; `since`, RFC 3339: it has the Lease. */
  readonly serving: ReplicaPod & { readonly since: string };
  /** Pods that are ready, and so wait for the Lease; `since`, RFC 3339. */
  readonly standingBy: readonly (ReplicaPod & { readonly since: string | null })[];
  /** Others, and why they cannot take over. */
  readonly notReady: readonly (ReplicaPod & { readonly why: string })[];
  /** Why the other pods are not known; null: they were seen a moment ago. */
  readonly problem: string | null;
  /** Why the Lease could not be renewed the last time: it is lost soon. Null: it was. */
  readonly leaseProblem: string | null;
};

const lookMs = 5000;
const timeoutMs = 4000;
const maxWhy = 300;

const waitingSchema = z.object({ reason: z.string().nullish(), message: z.string().nullish() });
const podSchema = z.object({
  metadata: z.object({ name: z.string(), deletionTimestamp: z.string().nullish() }),
  spec: z.object({ nodeName: z.string().nullish() }).nullish(),
  status: z
    .object({
      phase: z.string().nullish(),
      conditions: z
        .array(
          z.object({
            type: z.string(),
            status: z.string(),
            message: z.string().nullish(),
            lastTransitionTime: z.string().nullish(),
          }),
        )
        .nullish(),
      containerStatuses: z
        .array(z.object({ state: z.object({ waiting: waitingSchema.nullish() }).nullish() }))
        .nullish(),
    })
    .nullish(),
});
const podsSchema = z.object({ items: z.array(podSchema) });
type Pod = z.infer<typeof podSchema>;
type Others = Pick<ReplicasState, 'standingBy' | 'notReady'>;

/** Looks every few seconds at the pods of the controllers, for people only: nothing is decided by it. */
export class Replicas implements AsyncDisposable {
  readonly #api: Pick<KubernetesApi, 'get'>;
  readonly #path: string;
  readonly #lease: { readonly name: string; readonly since: string; readonly problem: () => string | null };
  readonly #log: Log;
  readonly #podName: string;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #node: string | null = null;
  #others: Others = { standingBy: [], notReady: [] };
  #problem: string | null = 'they have not been listed yet';
  #hasFailed = false;

  /** Begins at once. */
  constructor(init: {
    readonly api: Pick<KubernetesApi, 'get'>;
    readonly namespace: string;
    /** `since`, RFC 3339: this controller has it; `problem`: why it could not be renewed the last time. */
    readonly lease: { readonly name: string; readonly since: string; readonly problem: () => string | null };
    readonly log: Log;
    /** For tests: of this pod. */
    readonly podName?: string;
  }) {
    this.#api = init.api;
    const selector = Object.entries(selectorOf('controller')).map(([label, value]) => `${label}=${value}`);
    this.#path = `/api/v1/namespaces/${init.namespace}/pods?labelSelector=${encodeURIComponent(selector.join(','))}`;
    this.#lease = init.lease;
    this.#log = init.log;
    // A pod has its name as the name of its host.
    this.#podName = init.podName ?? hostname();
    this.#running = this.#run(this.#stop.signal);
  }

  get state(): ReplicasState {
    const { name, since, problem } = this.#lease;
    return {
      lease: name,
      serving: { name: this.#podName, node: this.#node, since },
      ...this.#others,
      problem: this.#problem,
      leaseProblem: problem(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#look(AbortSignal.any([signal, timeoutSignal(timeoutMs)]));
      await delay(lookMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    try {
      const { items } = podsSchema.parse(await this.#api.get(this.#path, signal));
      this.#node = items.find(({ metadata }) => metadata.name === this.#podName)?.spec?.nodeName ?? null;
      this.#others = othersAmong(items.filter(({ metadata }) => metadata.name !== this.#podName));
      this.#problem = null;
      this.#hasFailed = false;
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      // What was seen before may be wrong by now, and is not said.
      this.#others = { standingBy: [], notReady: [] };
      if (!this.#hasFailed) this.#log.warn({ err: error }, 'the pods of other controllers cannot be listed');
      this.#hasFailed = true;
      this.#problem = `they cannot be listed: ${describeError(error)}`;
    }
  }
}

/** A pod that is ending takes over no more. */
function othersAmong(pods: readonly Pod[]): Others {
  const present = pods.filter(({ metadata, status }) => {
    const isOver = status?.phase === 'Succeeded' || status?.phase === 'Failed';
    return (metadata.deletionTimestamp ?? null) === null && !isOver;
  });
  const read = present.map((pod) => {
    const { metadata, spec, status } = pod;
    const ready = (status?.conditions ?? []).find(({ type }) => type === 'Ready');
    const own = { name: metadata.name, node: spec?.nodeName ?? null };
    return { own, isReady: ready?.status === 'True', since: ready?.lastTransitionTime ?? null, why: whyNotReady(pod) };
  });
  return {
    standingBy: read.flatMap(({ own, isReady, since }) => (isReady ? [{ ...own, since }] : [])),
    notReady: read.flatMap(({ own, isReady, why }) => (isReady ? [] : [{ ...own, why }])),
  };
}

function whyNotReady({ status }: Pod): string {
  const waiting = (status?.containerStatuses ?? []).flatMap(({ state }) => state?.waiting ?? []);
  const [container] = waiting.map(({ reason, message }) => [reason, message].filter(Boolean).join(': '));
  const scheduled = (status?.conditions ?? []).find(({ type }) => type === 'PodScheduled');
  const unscheduled = scheduled?.status === 'False' ? (scheduled.message ?? 'no node takes it') : null;
  const why = unscheduled ?? container ?? '';
  return (why === '' ? 'it is not ready yet' : why).slice(0, maxWhy);
}
