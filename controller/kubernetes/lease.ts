import { uptime } from 'node:os';
import { z } from 'zod';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

const leaseSchema = z.object({
  metadata: z.object({
    resourceVersion: z.string().default(''),
    annotations: z.record(z.string(), z.string()).nullish(),
  }),
  spec: z
    .object({
      holderIdentity: z.string().nullish(),
      leaseDurationSeconds: z.number().nullish(),
      renewTime: z.string().nullish(),
      leaseTransitions: z.number().nullish(),
    })
    .nullish(),
});
type Read = {
  readonly version: string;
  readonly spec: NonNullable<z.infer<typeof leaseSchema>['spec']>;
  /** The id of the state that it belongs to; null: it was not held yet, or its owner has taken that back. */
  readonly state: string | null;
};

const stateAnnotation = 'culvert.dev/state';

/** Milliseconds since the machine was booted, with the time that it slept: CLOCK_BOOTTIME. Nothing sets this clock. */
function bootClockMs(): number {
  return uptime() * 1000;
}

/**
 * A Lease (coordination.k8s.io/v1) of a cluster, which one process holds at a time. No clock of another machine is compared: who
 * waits counts from when it saw the last change, and who holds it counts from before it asked for the last renewal, and gives up
 * after two thirds of the duration. So a holder that the API server does not answer has stopped before another may take it.
 *
 * A Lease that says nothing of a holder at all, as a new one, is waited for as if it were held: it may have been made again.
 *
 * It belongs to one state of a controller, whose id its first holder writes into an annotation. A controller with another state,
 * or with an empty directory, does not get it: two that serve with two states in turn would be two meshes.
 */
export class Lease implements AsyncDisposable {
  readonly #api: KubernetesApi;
  readonly #path: string;
  readonly #name: Readonly<Record<'namespace' | 'name', string>>;
  readonly #stateId: () => Promise<string | null>;
  readonly #identity: string;
  readonly #durationMs: number;
  readonly #elapsedMs: () => number;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #lost: Promise<CulvertError>;
  #lose: (error: CulvertError) => void = () => undefined;
  /** Of the last try, of one that waits: what the Lease said, and since when. */
  #seen: { readonly text: string; readonly atMs: number } | null = null;
  #heldUntilMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #problem: string | null = null;
  /** What it was tied to: each write of its holder says it again. */
  #tiedTo: string | null = null;

  constructor(init: {
    readonly api: KubernetesApi;
    readonly namespace: string;
    readonly name: string;
    /** Of this process, and of no other, an earlier one in the same pod included. */
    readonly identity: string;
    /** How long it is held after a renewal; whole seconds. */
    readonly durationMs: number;
    /** Of the own state; null: it has none yet. Asked only of a Lease that belongs to one. */
    readonly stateId: () => Promise<string | null>;
    readonly log: Log;
    /** For tests. */
    readonly elapsedMs?: () => number;
  }) {
    this.#api = init.api;
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${init.namespace}/leases/${init.name}`;
    this.#name = { namespace: init.namespace, name: init.name };
    this.#stateId = init.stateId;
    this.#identity = init.identity;
    this.#durationMs = init.durationMs;
    this.#log = init.log;
    this.#elapsedMs = init.elapsedMs ?? bootClockMs;
    this.#lost = new Promise((resolve) => (this.#lose = resolve));
  }

  /** Between two tries, and between two renewals. */
  get everyMs(): number {
    return Math.round(this.#durationMs / 7.5);
  }

  /** Why it could not be renewed the last time; null: it was. Of one that is held. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Resolves when it was held and is not any more, for whatever reason but {@link release}: then write nothing. */
  get lost(): Promise<CulvertError> {
    return this.#lost;
  }

  /**
   * Tries once to get it. Null: it is held from now on, and renewed until it is released or lost. A text: who has it, or why
   * that is not known. Errors: `LEASE_OF_OTHER_STATE`, also while another has it.
   */
  async tryToHold(): Promise<string | null> {
    try {
      const { version, spec, state } = await this.#read();
      if (state !== null) this.#assertOwn(state, await this.#stateId());
      const holder = spec.holderIdentity ?? '';
      if (!this.#isFree(spec)) return holder === '' ? 'it is new' : `${holder} has it`;
      const now = timestamp();
      const before = this.#elapsedMs();
      const held = { holderIdentity: this.#identity, leaseDurationSeconds: this.#durationMs / 1000, renewTime: now };
      const transitions = { acquireTime: now, leaseTransitions: (spec.leaseTransitions ?? 0) + 1 };
      await this.#write(version, { ...held, ...transitions });
      this.#hold(before);
      return null;
    } catch (error) {
      return tellOrThrow(error);
    }
  }

  /**
   * Ties it to a state, once it is held and before that state is used. Null: it belongs to this state from now on. A text: why
   * that could not be written; try again. Errors: `LEASE_OF_OTHER_STATE`.
   */
  async tryToTie(stateId: string): Promise<string | null> {
    try {
      const { version, spec, state } = await this.#read();
      if (spec.holderIdentity !== this.#identity) return `${spec.holderIdentity ?? 'no controller'} has it`;
      if (state !== null) this.#assertOwn(state, stateId);
      else await this.#write(version, {}, { state: stateId });
      this.#tiedTo = stateId;
      return null;
    } catch (error) {
      return tellOrThrow(error);
    }
  }

  #assertOwn(state: string, own: string | null): void {
    if (own === state) return;
    const { namespace, name } = this.#name;
    const has =
      own === null ? 'the state directory has no id: it is empty, or from before' : `this is the state ${own}`;
    throw new CulvertError({
      code: 'LEASE_OF_OTHER_STATE',
      message: `the Lease ${name} belongs to the state ${state}, and ${has}`,
      hint:
        'give this controller the volume, or the directory of the node, that the mesh began with, or a backup of it; ' +
        `if this state is to count instead: kubectl -n ${namespace} annotate lease ${name} ${stateAnnotation}-`,
    });
  }

  /** Lets the next one have it at once. Never rejects; where the API server does not answer, it is free after its duration. */
  async [Symbol.asyncDispose](): Promise<void> {
    const isHeld = this.#heldUntilMs > this.#elapsedMs();
    this.#heldUntilMs = 0;
    clearTimeout(this.#timer);
    clearTimeout(this.#deadline);
    this.#stop.abort();
    await this.#renewing;
    if (!isHeld) return;
    try {
      const signal = timeoutSignal(this.everyMs);
      const { version, spec } = await this.#read(signal);
      if (spec.holderIdentity === this.#identity)
        await this.#write(version, { holderIdentity: null, renewTime: timestamp() }, { signal });
    } catch (error) {
      this.#log.warn({ err: error }, 'the lease could not be given back; it ends by itself');
    }
  }

  #isFree({ holderIdentity, leaseDurationSeconds, renewTime }: Read['spec']): boolean {
    const nowMs = this.#elapsedMs();
    const isGivenBack = (holderIdentity ?? '') === '' && (renewTime ?? '') !== '';
    if (isGivenBack) return true;
    const text = JSON.stringify([holderIdentity, renewTime, leaseDurationSeconds]);
    if (this.#seen?.text !== text) this.#seen = { text, atMs: nowMs };
    const durationMs = leaseDurationSeconds == null ? this.#durationMs : leaseDurationSeconds * 1000;
    return nowMs - this.#seen.atMs >= durationMs;
  }

  #hold(sinceMs: number): void {
    this.#heldUntilMs = sinceMs + (this.#durationMs * 2) / 3;
    this.#watchDeadline();
    this.#renewIn(this.everyMs);
  }

  /** A timer may come late, as after a pause of the process; then it is late here too. */
  #watchDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(
      () =>
        this.#giveUp(
          `it could not be renewed in time: ${this.#problem ?? 'the API server did not answer, or this process stood still'}`,
        ),
      Math.max(0, this.#heldUntilMs - this.#elapsedMs()),
    );
  }

  #giveUp(why: string): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#deadline);
    this.#heldUntilMs = 0;
    this.#stop.abort();
    this.#lose(
      new CulvertError({
        code: 'LEASE_LOST',
        message: `this controller has lost the lease: ${why}`,
        hint: 'nothing is to be done: it starts again and stands by, and another controller takes over',
      }),
    );
  }

  #renewIn(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#renewing = this.#renew();
    }, ms);
  }

  async #renew(): Promise<void> {
    const before = this.#elapsedMs();
    if (before >= this.#heldUntilMs) return this.#giveUp('this process stood still');
    const limit = AbortSignal.any([this.#stop.signal, timeoutSignal(Math.ceil(this.#heldUntilMs - before))]);
    try {
      const { version, spec } = await this.#read(limit);
      if (spec.holderIdentity !== this.#identity) {
        if (this.#stop.signal.aborted) return;
        return this.#giveUp(`${spec.holderIdentity ?? 'no controller'} has it`);
      }
      await this.#write(version, { renewTime: timestamp() }, { signal: limit });
      this.#problem = null;
      if (this.#stop.signal.aborted) return;
      if (this.#elapsedMs() >= this.#heldUntilMs) return this.#giveUp('its renewal took too long');
      this.#hold(before);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      // The next try reads again: another may have it, or another change was in the way.
      const isConflict = error instanceof KubernetesError && error.status === 409;
      if (!isConflict && this.#problem === null) this.#log.warn({ err: error }, 'the lease cannot be renewed');
      this.#problem = describeError(error);
      this.#renewIn(isConflict ? 0 : this.everyMs / 2);
    }
  }

  async #read(signal: AbortSignal = timeoutSignal(this.everyMs)): Promise<Read> {
    const { metadata, spec } = leaseSchema.parse(await this.#api.get(this.#path, signal));
    const state = metadata.annotations?.[stateAnnotation] ?? '';
    return { version: metadata.resourceVersion, spec: spec ?? {}, state: state === '' ? null : state };
  }

  /** Fails with 409 when the Lease has changed since it was read. */
  async #write(
    version: string,
    spec: object,
    {
      state = this.#tiedTo,
      signal = timeoutSignal(this.everyMs),
    }: { readonly state?: string | null; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    const tie = state === null ? {} : { annotations: { [stateAnnotation]: state } };
    const body = { metadata: { resourceVersion: version, ...tie }, spec };
    const type = 'application/merge-patch+json';
    await this.#api.send({ method: 'PATCH', path: this.#path, body, type }, signal);
  }
}

/** A Lease of another state is no matter of waiting. */
function tellOrThrow(error: unknown): string {
  if (error instanceof CulvertError && error.code === 'LEASE_OF_OTHER_STATE') throw error;
  return describeError(error);
}

/** As Kubernetes writes a MicroTime. For people only. */
function timestamp(): string {
  return new Date().toISOString().replace('Z', '000Z');
}
