import { setTimeout as delay } from 'node:timers/promises';
import type { Bucket } from '../../shared/bus/bucket.js';
import type { Bus } from '../../shared/bus/bus.js';
import { buckets, enrolmentKeyFor, enrolmentKeyPrefix } from '../../shared/bus/subjects.js';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { NodeName } from '../../shared/routing/names.js';
import {
  decodeEnrolmentNotice,
  encodeEnrolmentNotice,
  enrolmentDigest,
  sealNodeEnrolment,
  type EnrolmentNotice,
  type NodeEnrolment,
} from '../../shared/wire/node-enrolment.js';

/** Changes within this time share a publication. The first one after a pause does not wait. */
const windowMs = 100;
/** After a failure. */
const retryMs = 1000;
/** Of one node: more than any kubelet runs. What is above it cannot start there, as no agent lets it pass. */
const mostOutside = 1000;
/** How many of the nodes with a problem are named. */
const mostNamed = 3;

type Wanted = Omit<NodeEnrolment, 'version'>;

/**
 * Tells each node that the list of pods that wait for its agent has changed, and keeps the list, signed, for the node to ask for:
 * what is in a bucket every agent reads.
 */
export class EnrolmentPublisher {
  readonly #enrolments: () => ReadonlyMap<NodeName, Wanted> | null;
  readonly #privateKeyPem: string;
  readonly #nowMs: () => number;
  readonly #log: Log;
  /** What the bucket holds, by its keys; null for what cannot be read. */
  #known: Map<string, EnrolmentNotice | null> | null = null;
  /** What each node gets when it asks. */
  readonly #sealed = new Map<NodeName, { readonly version: number; readonly bytes: Uint8Array }>();
  #changed = new AbortController();
  #connections = 0;
  #problem: string | null = null;

  constructor(init: {
    /** Null: not known yet, so what is published stays. */
    readonly enrolments: () => ReadonlyMap<NodeName, Wanted> | null;
    readonly privateKeyPem: string;
    readonly nowMs: () => number;
    readonly log: Log;
  }) {
    this.#enrolments = init.enrolments;
    this.#privateKeyPem = init.privateKeyPem;
    this.#nowMs = init.nowMs;
    this.#log = init.log;
  }

  /** Why nodes may have a list that is old or not complete; null: they do not. */
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
      const problems = wanted === null ? [] : await this.#converge(await bus.bucket(buckets.rules), wanted);
      const problem = problems.length === 0 ? null : describeProblems(problems);
      if (problem !== null && problem !== this.#problem)
        this.#log.warn({ problem }, 'nodes have no complete list of pods');
      this.#problem = problem;
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

  /** The list of a node, signed; null: it has none, or it is not known yet. */
  sealedFor(node: NodeName): Uint8Array | null {
    return this.#sealed.get(node)?.bytes ?? null;
  }

  /** Returns what is wrong with single nodes, each of which keeps no other from its list. */
  async #converge(bucket: Bucket, wanted: ReadonlyMap<NodeName, Wanted>): Promise<readonly string[]> {
    const problems: string[] = [];
    const connection = this.#connections;
    const held = (this.#known ??= await this.#list(bucket));
    const changed = new Map<string, Uint8Array>();
    const next = new Map(held);
    for (const [node, { namespaces, outside: all }] of wanted) {
      const outside = all.slice(0, mostOutside);
      if (outside.length < all.length) {
        problems.push(
          `${all.length} pods of ${node} are outside the mesh, and its agent learns ${mostOutside} of them: others may not start`,
        );
      }
      const key = enrolmentKeyFor(node);
      const before = held.get(key) ?? null;
      const digest = enrolmentDigest({ namespaces, outside });
      const isSame = before?.digest === digest;
      if (isSame && this.#sealed.get(node)?.version === before.version) continue;
      const version = isSame ? before.version : Math.max((before?.version ?? 0) + 1, Math.floor(this.#nowMs()));
      const enrolment = { version, namespaces, outside };
      try {
        const bytes = sealNodeEnrolment({ node, enrolment, privateKeyPem: this.#privateKeyPem });
        this.#sealed.set(node, { version, bytes });
      } catch (error) {
        if (!(error instanceof CulvertError) || error.code !== 'PAYLOAD_TOO_LARGE') throw error;
        problems.push(`${node} keeps the list it has: ${describeError(error)}`);
        continue;
      }
      if (isSame) continue;
      changed.set(key, encodeEnrolmentNotice({ version, digest }));
      next.set(key, { version, digest });
    }
    await bucket.putAll(changed);
    for (const node of this.#sealed.keys()) if (!wanted.has(node)) this.#sealed.delete(node);
    const keys = new Set([...wanted.keys()].map(enrolmentKeyFor));
    for (const key of held.keys()) {
      if (keys.has(key)) continue;
      await bucket.delete(key);
      next.delete(key);
    }
    if (connection === this.#connections) this.#known = next;
    return problems;
  }

  async #list(bucket: Bucket): Promise<Map<string, EnrolmentNotice | null>> {
    const entries = await bucket.entries({ prefix: enrolmentKeyPrefix });
    return new Map(entries.map(({ key, value }) => [key, decodeEnrolmentNotice(value)]));
  }
}

function describeProblems(problems: readonly string[]): string {
  const more = problems.length - mostNamed;
  const named = problems.slice(0, mostNamed).join('; ');
  return `${named}${more > 0 ? `; and ${more} more of this kind` : ''}`;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
