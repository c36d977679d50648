import { createHash } from 'node:crypto';
import type { Log } from '../../shared/log.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';
import { WritePauses } from './write-pauses.js';

/** The object that an event is about. */
export type Regarding = {
  readonly kind: 'Pod' | 'Service' | 'Node';
  /** Empty: it is in none. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
};

/** Something that people must know of an object, for as long as it is so. */
export type Condition = {
  readonly regarding: Regarding;
  /** One word in CamelCase. */
  readonly reason: string;
  readonly note: string;
  /** It is told when it has been so for this long. */
  readonly afterMs: number;
  /** What is told when it holds no more, after it was told; null: nothing. */
  readonly over: () => { readonly reason: string; readonly note: string } | null;
};

type Known = {
  condition: Condition;
  readonly sinceMs: number;
  /** What was told last; null: nothing yet. */
  told: { readonly name: string; readonly note: string; readonly count: number; readonly atMs: number } | null;
  /** The API server will not have it. */
  isRefused: boolean;
  /** It holds no more, and this is still to be told. */
  over: ReturnType<Condition['over']>;
  /** Since when it holds no more. */
  overAtMs: number;
};

type Event = {
  readonly type: 'Normal' | 'Warning';
  readonly regarding: Regarding;
  readonly reason: string;
  readonly note: string;
};

/** Of one turn. */
const maxWrites = 10;
/** Of them, kept for objects without a namespace, nodes: what is wrong with one concerns many. */
const maxWritesOfNodes = 3;
/** What is known of more than this is not told, until some of it is over, or another namespace has more of it. */
const maxKnown = 2000;
/** The API server forgets an event an hour after its last change. */
const againAfterMs = 30 * 60_000;
/** A note that changes is not told sooner after the one before. */
const changedAfterMs = 60_000;
const timeoutMs = 5000;
const pauses = { firstMs: 5000, longestMs: 300_000 };
/** Of a note, as the API has it (events.k8s.io/v1). */
const maxNoteBytes = 1024;
const controllerName = 'culvert.dev/controller';

/**
 * Tells conditions as events of Kubernetes (events.k8s.io/v1). One event for each object, reason and note, under a name that
 * follows from them: what is told again becomes a series, also after a restart. At most {@link maxWrites} a turn: namespaces
 * take turns, nodes have places of their own, and within each what has waited longest is first, so no namespace silences
 * another. While the API server refuses or is away, it is asked less and less, and what is over meanwhile is never told.
 */
export class EventWriter {
  readonly #api: Pick<KubernetesApi, 'send'>;
  readonly #log: Log;
  readonly #instance: string;
  readonly #nowMs: () => number;
  readonly #elapsedMs: () => number;
  readonly #known = new Map<string, Known>();
  /** By namespace, which write was its last: those of the lowest numbers are next. */
  readonly #served = new Map<string, number>();
  readonly #pauses: WritePauses;
  #lastWrite = 0;

  constructor(init: {
    readonly api: Pick<KubernetesApi, 'send'>;
    readonly log: Log;
    /** Who tells: the pod of the controller. */
    readonly instance: string;
    /** Of the clock. */
    readonly nowMs: () => number;
    /** Of a clock that never goes back. */
    readonly elapsedMs?: () => number;
  }) {
    this.#api = init.api;
    this.#log = init.log;
    this.#instance = init.instance;
    this.#nowMs = init.nowMs;
    this.#elapsedMs = init.elapsedMs ?? (() => performance.now());
    this.#pauses = new WritePauses({ what: 'events', log: init.log, ...pauses, elapsedMs: this.#elapsedMs });
  }

  /** Why events are not told; null: they are, or will be soon. */
  get problem(): string | null {
    return this.#pauses.problem;
  }

  /** One turn, with all conditions that hold now. Never rejects. */
  async tell(conditions: readonly Condition[], signal: AbortSignal): Promise<void> {
    this.#note(conditions);
    if (this.#pauses.isPausing) return;
    for (const [key, known] of this.#next()) {
      if (signal.aborted) return;
      // Also where it fails: the next turn begins with another namespace.
      this.#served.set(known.condition.regarding.namespace, ++this.#lastWrite);
      if (!(await this.#tellOne(known, signal))) return;
      if (known.over !== null) this.#known.delete(key);
    }
  }

  /** What is told in this turn, in this order. */
  #next(): readonly (readonly [string, Known])[] {
    const now = this.#elapsedMs();
    const waiting = [...this.#known]
      .map((entry) => ({ entry, namespace: entry[1].condition.regarding.namespace, dueAtMs: dueAtMs(entry[1]) }))
      .filter((each) => each.dueAtMs <= now)
      .sort((a, b) => a.dueAtMs - b.dueAtMs);
    const places = new Map<string, number>();
    const inTurn = waiting.map((each) => {
      const place = places.get(each.namespace) ?? 0;
      places.set(each.namespace, place + 1);
      return { ...each, place, isKept: each.namespace === '' && place < maxWritesOfNodes };
    });
    for (const namespace of this.#served.keys()) if (!places.has(namespace)) this.#served.delete(namespace);
    const servedAt = ({ namespace }: { readonly namespace: string }): number => this.#served.get(namespace) ?? 0;
    return inTurn
      .sort((a, b) => Number(b.isKept) - Number(a.isKept) || a.place - b.place || servedAt(a) - servedAt(b))
      .slice(0, maxWrites)
      .sort((a, b) => a.place - b.place || servedAt(a) - servedAt(b))
      .map(({ entry }) => entry);
  }

  /** Brings what is known up to date. */
  #note(conditions: readonly Condition[]): void {
    const holding = new Set<string>();
    const places = new Places(this.#known);
    for (const condition of conditions) {
      const key = `${condition.regarding.uid} ${condition.regarding.name} ${condition.reason}`;
      holding.add(key);
      const known = this.#known.get(key);
      if (known !== undefined && known.over === null) known.condition = condition;
      else if (known !== undefined || places.take(condition.regarding.namespace)) {
        // Told again, it goes on with the event that is there.
        this.#known.delete(key);
        const told = known?.told ?? null;
        const sinceMs = this.#elapsedMs();
        this.#known.set(key, { condition, sinceMs, told, isRefused: false, over: null, overAtMs: sinceMs });
      }
    }
    for (const [key, known] of this.#known) {
      if (holding.has(key) || known.over !== null) continue;
      known.over = known.told === null || known.isRefused ? null : known.condition.over();
      known.overAtMs = this.#elapsedMs();
      if (known.over === null) this.#known.delete(key);
    }
  }

  /** Whether others can be told. */
  async #tellOne(known: Known, signal: AbortSignal): Promise<boolean> {
    const { condition, told, over } = known;
    const { regarding, reason, note } = condition;
    const event: Event =
      over === null ? { type: 'Warning', regarding, reason, note } : { type: 'Normal', regarding, ...over };
    const limited = AbortSignal.any([signal, timeoutSignal(timeoutMs)]);
    const isAgain = told !== null && told.note === note && over === null;
    try {
      const count = await this.#write(event, isAgain ? told.count + 1 : 1, limited);
      known.told = { name: nameOf(event), note, count, atMs: this.#elapsedMs() };
      this.#pauses.succeeded();
      return true;
    } catch (error) {
      return this.#onFailure(error, known, signal);
    }
  }

  /** Returns how often it was told, as far as is known. `count` 1: it is not there yet, or was told by another run. */
  async #write(event: Event, count: number, signal: AbortSignal): Promise<number> {
    const path = pathOf(event.regarding);
    const name = nameOf(event);
    if (count > 1) {
      try {
        await this.#api.send({ method: 'PATCH', path: `${path}/${name}`, ...this.#series(count) }, signal);
        return count;
      } catch (error) {
        // It is too old, and was forgotten.
        if (!(error instanceof KubernetesError && error.status === 404)) throw error;
      }
    }
    try {
      await this.#api.send({ method: 'POST', path, body: this.#object(event, name) }, signal);
      return 1;
    } catch (error) {
      if (!(error instanceof KubernetesError && error.status === 409)) throw error;
    }
    await this.#api.send({ method: 'PATCH', path: `${path}/${name}`, ...this.#series(2) }, signal);
    return 2;
  }

  #series(count: number): { readonly body: object; readonly type: string } {
    return {
      body: { series: { count, lastObservedTime: this.#time() } },
      type: 'application/merge-patch+json',
    };
  }

  #object({ type, regarding, reason, note }: Event, name: string): object {
    const { kind, namespace, name: objectName, uid } = regarding;
    return {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name, namespace: namespaceOf(regarding) },
      eventTime: this.#time(),
      reportingController: controllerName,
      reportingInstance: this.#instance.slice(0, 128),
      action: 'Capture',
      reason,
      regarding: {
        apiVersion: 'v1',
        kind,
        ...(namespace === '' ? {} : { namespace }),
        name: objectName,
        uid,
      },
      type,
      note: cut(note),
    };
  }

  /** A `MicroTime`, which has six digits. */
  #time(): string {
    return new Date(this.#nowMs()).toISOString().replace('Z', '000Z');
  }

  #onFailure(error: unknown, known: Known, { aborted }: AbortSignal): boolean {
    if (aborted) return false;
    if (isAboutEvent(error)) {
      this.#log.debug({ err: error, regarding: known.condition.regarding }, 'an event is refused');
      known.isRefused = true;
      return true;
    }
    this.#pauses.failed(error);
    return false;
  }
}

/** The places of one turn, {@link maxKnown}: the namespace that has most gives one to another that has fewer. */
class Places {
  readonly #known: Map<string, Known>;
  readonly #counts = new Map<string, number>();
  #most: string | null = null;

  constructor(known: Map<string, Known>) {
    this.#known = known;
    for (const { condition } of known.values()) this.#add(condition.regarding.namespace, 1);
  }

  /** Whether there is a place for one more of that namespace. */
  take(namespace: string): boolean {
    if (this.#known.size >= maxKnown && !this.#give(namespace)) return false;
    this.#add(namespace, 1);
    return true;
  }

  #give(namespace: string): boolean {
    this.#most ??= [...this.#counts].reduce((a, b) => (b[1] > a[1] ? b : a))[0];
    const most = this.#most;
    // Else the two would take it from each other in turn.
    if ((this.#counts.get(namespace) ?? 0) + 1 >= (this.#counts.get(most) ?? 0)) return false;
    const ofMost = [...this.#known].filter(([, { condition }]) => condition.regarding.namespace === most);
    // What was told is known to people.
    const [key] = ofMost.findLast(([, { told }]) => told !== null) ?? ofMost.at(-1) ?? [];
    if (key === undefined) return false;
    this.#known.delete(key);
    this.#add(most, -1);
    return true;
  }

  #add(namespace: string, difference: number): void {
    this.#counts.set(namespace, (this.#counts.get(namespace) ?? 0) + difference);
    this.#most = null;
  }
}

/** Since when it waits to be told, or from when it will. */
function dueAtMs({ condition, sinceMs, told, isRefused, over, overAtMs }: Known): number {
  if (isRefused) return Infinity;
  if (over !== null) return overAtMs;
  const holdsMs = sinceMs + condition.afterMs;
  if (told === null) return holdsMs;
  return Math.max(holdsMs, told.atMs + (told.note === condition.note ? againAfterMs : changedAfterMs));
}

/** The API server refuses this one, and would take others: its namespace is being deleted, for example. */
function isAboutEvent(error: unknown): boolean {
  if (!(error instanceof KubernetesError) || error.status === null) return false;
  if (error.status === 403) return error.message.includes('being terminated');
  return error.status >= 400 && error.status < 500 && ![401, 408, 429].includes(error.status);
}

/** Events of objects without a namespace are in this one, as the API wants it. */
function namespaceOf({ namespace }: Regarding): string {
  return namespace === '' ? 'default' : namespace;
}

function pathOf(regarding: Regarding): string {
  return `/apis/events.k8s.io/v1/namespaces/${namespaceOf(regarding)}/events`;
}

/** The same for the same event. A name of an object has 253 characters at most, and so has that of an event. */
function nameOf({ regarding: { kind, name, uid }, reason, note }: Event): string {
  const hash = createHash('sha256').update([kind, uid, reason, note].join('\n')).digest('hex').slice(0, 16);
  return `${name.slice(0, 220).replace(/[^a-z0-9]+$/, '')}.${hash}`;
}

/** Without the rest of a letter at the end. */
function cut(note: string): string {
  const bytes = Buffer.from(note);
  return bytes.length <= maxNoteBytes
    ? note
    : bytes
        .subarray(0, maxNoteBytes)
        .toString('utf8')
        .replace(/\uFFFD+$/, '');
}
