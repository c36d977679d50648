import { isDeepStrictEqual } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import type { Bucket } from '../../shared/bus/bucket.js';
import type { Bus } from '../../shared/bus/bus.js';
import { buckets, enrolmentKeyFor, enrolmentKeyPrefix } from '../../shared/bus/subjects.js';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { NodeName } from '../../shared/routing/names.js';
import { openNodeEnrolment, sealNodeEnrolment, type NodeEnrolment } from '../../shared/wire/node-enrolment.js';

/** Changes within this time share a publication. The first one after a pause does not wait. */
const windowMs = 100;
/** After a failure. */
const retryMs = 1000;

type Wanted = Omit<NodeEnrolment, 'version'>;

/** Tells each node which pods wait for its agent, signed, whenever that changes. */
export class EnrolmentPublisher {
  readonly #enrolments: () => ReadonlyMap<NodeName, Wanted> | null;
  readonly #privateKeyPem: string;
  readonly #publicKeyPem: string;
  readonly #nowMs: () => number;
  readonly #log: Log;
  /** What the bucket holds, by its keys; null for what cannot be read. */
  #known: Map<string, NodeEnrolment | null> | null = null;
  #changed = new AbortController();
  #connections = 0;
  #problem: string | null = null;

  constructor(init: {
    /** Null: not known yet, so what is published stays. */
    readonly enrolments: () => ReadonlyMap<NodeName, Wanted> | null;
    readonly privateKeyPem: string;
    readonly publicKeyPem: string;
    readonly nowMs: () => number;
    readonly log: Log;
  }) {
    this.#enrolments = init.enrolments;
    this.#privateKeyPem = init.privateKeyPem;
    this.#publicKeyPem = init.publicKeyPem;
    this.#nowMs = init.nowMs;
    this.#log = init.log;
  }

  /** Why nodes may have an old list; null: they do not. */
  get problem(): string | null {
    return this.#problem;
  }

  noteChange(): void {
    this.#changed.abort();
  }

  /** Publishes until the signal aborts. Never rejects: what fails is tried again. */
  async run(bus: Bus, signal: AbortSignal): Promise<void> {
    const stop = bus.onStatus((status) => {
      // The store may have been wiped.
      if (status !== 'connected') return;
      this.#known = null;
      this.#connections++;
      this.noteChange();
    });
    while (!signal.aborted) {
      this.#changed = new AbortController();
      const isDone = await this.#publish(bus, signal);
      await pause(isDone ? windowMs : retryMs, signal);
      if (isDone) await aborted(AbortSignal.any([signal, this.#changed.signal]));
    }
    stop();
  }

  async #publish(bus: Bus, signal: AbortSignal): Promise<boolean> {
    try {
      const wanted = this.#enrolments();
      if (wanted !== null) await this.#converge(await bus.bucket(buckets.rules), wanted);
      this.#problem = null;
      return true;
    } catch (error) {
      this.#known = null;
      if (signal.aborted) return false;
      const problem = `nodes are not told which pods wait for their agents: ${describeError(error)}`;
      if (problem !== this.#problem) this.#log.warn({ err: error }, 'nodes are not told which pods wait; retrying');
      this.#problem = problem;
      return false;
    }
  }

  async #converge(bucket: Bucket, wanted: ReadonlyMap<NodeName, Wanted>): Promise<void> {
    const connection = this.#connections;
    const held = (this.#known ??= await this.#list(bucket, wanted.keys()));
    const changed = new Map<string, Uint8Array>();
    const next = new Map(held);
    for (const [node, { namespaces, outside }] of wanted) {
      const key = enrolmentKeyFor(node);
      const before = held.get(key) ?? null;
      const version = Math.max((before?.version ?? 0) + 1, Math.floor(this.#nowMs()));
      if (before !== null && isDeepStrictEqual(before, { version: before.version, namespaces, outside })) continue;
      const enrolment = { version, namespaces, outside };
      next.set(key, enrolment);
      changed.set(key, sealNodeEnrolment({ node, enrolment, privateKeyPem: this.#privateKeyPem }));
    }
    await bucket.putAll(changed);
    const keys = new Set([...wanted.keys()].map(enrolmentKeyFor));
    for (const key of held.keys()) {
      if (keys.has(key)) continue;
      await bucket.delete(key);
      next.delete(key);
    }
    if (connection === this.#connections) this.#known = next;
  }

  async #list(bucket: Bucket, nodes: Iterable<NodeName>): Promise<Map<string, NodeEnrolment | null>> {
    const nodeOf = new Map([...nodes].map((node) => [enrolmentKeyFor(node), node]));
    const held = new Map<string, NodeEnrolment | null>();
    for (const { key, value } of await bucket.entries({ prefix: enrolmentKeyPrefix })) {
      const node = nodeOf.get(key);
      held.set(key, node === undefined ? null : this.#read(node, value));
    }
    return held;
  }

  #read(node: NodeName, bytes: Uint8Array): NodeEnrolment | null {
    try {
      return openNodeEnrolment({ node, bytes, publicKeysPem: [this.#publicKeyPem] });
    } catch {
      return null;
    }
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
