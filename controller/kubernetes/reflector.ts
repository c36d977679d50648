import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';

const pageSize = 500;
/** The server ends a watch after this time, so that watches spread over its replicas again. */
const watchSeconds = 240;
/**
 * Without a word for this long, bookmarks included, a watch is opened again where it was: a server that hangs would tell nothing
 * for ever. The API server sends a bookmark about once a minute.
 */
const quietMs = 90_000;
/** A server that works begins a watch at once. */
const openingMs = 30_000;
/** A watch that told nothing counts as one that works when it lasted for this long. */
const soundWatchMs = 10_000;
/** A server that refuses a watch in its first event does so at once: one that is open for longer tells all changes. */
const openWatchMs = 1000;
/** After how many failures a kind that the cluster does not have is asked for: every 2 to 4 s, so that it counts soon. */
const absentFailures = 2;
/** One controller of a cluster asks: a server that comes back is noticed soon, and a dead one gets some requests a second. */
const defaultBackoff = { firstMs: 1000, longestMs: 5000 };
/** A server that says when to come again is believed up to this. */
const longestToldMs = 30_000;

/** How long a server may be silent. */
const defaultSilence = { openingMs, quietMs };

/** In place of an object that cannot be understood. */
const unread = Symbol('unread');

const listSchema = z.object({
  metadata: z.object({ resourceVersion: z.string().min(1), continue: z.string().optional() }),
  items: z.array(z.unknown()).nullish(),
});
const eventSchema = z.object({ type: z.string(), object: z.unknown() });
const metadataSchema = z.object({
  metadata: z.object({
    namespace: z.string().default(''),
    name: z.string().min(1),
    resourceVersion: z.string().min(1),
  }),
});
const versionSchema = z.object({ metadata: z.object({ resourceVersion: z.string().min(1) }) });
const statusSchema = z.object({ code: z.number(), message: z.string().default('') });

/** Keys are `NAMESPACE/NAME`, or `/NAME` for kinds without a namespace. */
export interface ReflectedKind<T> {
  /** For people: `pods`. */
  readonly name: string;
  /** `/api/v1/pods`. */
  readonly path: string;
  /** Where servers that do not serve `path` may have the same objects: the first that is served counts while it is. */
  readonly earlierPaths?: readonly string[];
  /** A cluster need not have the kind: that it is not served is no problem. It is asked for again, more often than usual. */
  readonly isOptional?: boolean;
  /** Of labels; absent: all objects. */
  readonly selector?: string;
  /** What is kept of an object; null: it does not concern the mesh. Throws where the object cannot be understood. */
  readonly read: (object: unknown) => T | null;
  /** Everything that there is now. `unreadable` are there too, and what is known of them stays. */
  readonly onReplaced: (objects: ReadonlyMap<string, T>, unreadable: ReadonlySet<string>) => void;
  /** `object` null: it is gone, or does not concern the mesh any more. */
  readonly onChanged: (key: string, object: T | null) => void;
  /** The object is there as before, and its new version cannot be understood: what is known of it stays. */
  readonly onUnreadable: (key: string) => void;
}

/**
 * Keeps what is known of one kind of object like what the API server has: lists all, then watches from the version of the
 * list, and lists again when the server no longer has that version (410). What fails is tried again, after 1 s at first and
 * then after up to 30 s; until then the owner keeps what it was given last. Source: "Efficient detection of changes" in the
 * API concepts of the Kubernetes documentation.
 */
export class Reflector<T> {
  readonly #api: KubernetesApi;
  readonly #kind: ReflectedKind<T>;
  readonly #log: Log;
  readonly #random: () => number;
  readonly #backoff: typeof defaultBackoff;
  readonly #silence: typeof defaultSilence;
  #version: string | null = null;
  #failures = 0;
  #problem: string | null = null;
  /** Keys whose objects could not be understood. */
  #unreadable = new Set<string>();
  #isSynced = false;
  #isAbsent = false;
  readonly #paths: readonly string[];
  /** Which of the paths is asked, and how many in a row were not served. */
  #at = 0;
  #missing = 0;

  constructor(init: {
    readonly api: KubernetesApi;
    readonly kind: ReflectedKind<T>;
    readonly log: Log;
    readonly random?: () => number;
    /** For tests. */
    readonly backoff?: typeof defaultBackoff;
    /** For tests. */
    readonly silence?: typeof defaultSilence;
  }) {
    this.#api = init.api;
    this.#kind = init.kind;
    this.#paths = [init.kind.path, ...(init.kind.earlierPaths ?? [])];
    this.#log = init.log;
    this.#random = init.random ?? Math.random;
    this.#backoff = init.backoff ?? defaultBackoff;
    this.#silence = init.silence ?? defaultSilence;
  }

  /** Of the kind, for people. */
  get name(): string {
    return this.#kind.name;
  }

  /** Whether everything was listed once. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** The cluster does not have the kind, or no longer: its owner keeps what it was given last. */
  get isAbsent(): boolean {
    return this.#isAbsent;
  }

  get #path(): string {
    return this.#paths[this.#at] ?? this.#kind.path;
  }

  get #selector(): string {
    const { selector } = this.#kind;
    return selector === undefined ? '' : `&labelSelector=${encodeURIComponent(selector)}`;
  }

  /** Why what is known may be old; null: it is not. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Keys of objects that are there and cannot be understood. They are not gone: the owner keeps what it knows of them. */
  get unreadable(): ReadonlySet<string> {
    return this.#unreadable;
  }

  /** Resolves when `signal` aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#version === null) await this.#list(signal);
        if (await this.#watch(signal)) this.#failures = 0;
        // A server that ends watches at once is not asked in a tight loop.
        else await this.#wait(null, signal);
      } catch (error) {
        if (signal.aborted) return;
        await this.#onFailure(error, signal);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const objects = new Map<string, T>();
    const unreadable = new Set<string>();
    let version = '';
    let next: string | undefined = '';
    while (next !== undefined) {
      const from: string = next === '' ? '' : `&continue=${encodeURIComponent(next)}`;
      const page = listSchema.safeParse(
        await this.#api.get(`${this.#path}?limit=${pageSize}${this.#selector}${from}`, signal),
      );
      if (!page.success) throw this.#unlike('a list');
      for (const item of page.data.items ?? []) {
        const { key } = this.#identify(item);
        const read = this.#read(key, item);
        if (read === unread) unreadable.add(key);
        else if (read !== null) objects.set(key, read);
      }
      const { resourceVersion, continue: more = '' } = page.data.metadata;
      version = resourceVersion;
      next = more === '' ? undefined : more;
    }
    this.#isAbsent = false;
    this.#missing = 0;
    this.#unreadable = unreadable;
    this.#kind.onReplaced(objects, unreadable);
    this.#version = version;
    this.#isSynced = true;
    this.#recovered();
  }

  /** Whether the watch told anything, a bookmark included, or lasted. Rejects when it does not begin. */
  async #watch(signal: AbortSignal): Promise<boolean> {
    const path = this.#path;
    const query = `watch=1&allowWatchBookmarks=true&timeoutSeconds=${watchSeconds}&resourceVersion=${this.#version ?? ''}`;
    const startedAtMs = performance.now();
    const silent = new AbortController();
    const giveUp = (): void => silent.abort();
    const ended = AbortSignal.any([signal, silent.signal]);
    let hadEvents = false;
    let silence = setTimeout(giveUp, this.#silence.openingMs);
    let opened: NodeJS.Timeout | undefined;
    try {
      const events = await this.#api.watch(`${path}?${query}${this.#selector}`, ended);
      // Where nothing changes, the first event is a bookmark, after a minute.
      opened = setTimeout(() => this.#recovered(), openWatchMs);
      clearTimeout(silence);
      silence = setTimeout(giveUp, this.#silence.quietMs);
      for await (const line of events) {
        const event = eventSchema.safeParse(line);
        if (!event.success) throw this.#unlike('an event of a watch');
        this.#onEvent(event.data.type, event.data.object);
        silence.refresh();
        hadEvents = true;
        this.#failures = 0;
        this.#recovered();
      }
    } catch (error) {
      if (opened === undefined || !silent.signal.aborted || signal.aborted) throw error;
      return true;
    } finally {
      clearTimeout(opened);
      clearTimeout(silence);
    }
    return hadEvents || performance.now() - startedAtMs >= soundWatchMs;
  }

  #onEvent(type: string, object: unknown): void {
    if (type === 'ERROR') throw this.#told(object);
    if (type === 'BOOKMARK') {
      const bookmark = versionSchema.safeParse(object);
      if (!bookmark.success) throw this.#unlike('a bookmark');
      this.#version = bookmark.data.metadata.resourceVersion;
      return;
    }
    const { key, version } = this.#identify(object);
    if (type === 'DELETED') {
      this.#unreadable.delete(key);
      this.#kind.onChanged(key, null);
    } else if (type === 'ADDED' || type === 'MODIFIED') this.#onObject(key, object);
    this.#version = version;
  }

  #identify(object: unknown): { readonly key: string; readonly version: string } {
    const read = metadataSchema.safeParse(object);
    if (!read.success) throw this.#unlike('an object');
    const { namespace, name, resourceVersion: version } = read.data.metadata;
    return { key: `${namespace}/${name}`, version };
  }

  #onObject(key: string, object: unknown): void {
    const read = this.#read(key, object);
    if (read === unread) {
      this.#unreadable.add(key);
      this.#kind.onUnreadable(key);
      return;
    }
    this.#unreadable.delete(key);
    this.#kind.onChanged(key, read);
  }

  /** One object that cannot be understood costs itself only. */
  #read(key: string, object: unknown): T | null | typeof unread {
    try {
      return this.#kind.read(object);
    } catch (error) {
      if (!this.#unreadable.has(key)) {
        const { name: kind } = this.#kind;
        this.#log.warn(
          { kind, object: key, err: error },
          'an object of Kubernetes cannot be understood: what is known stays',
        );
      }
      return unread;
    }
  }

  async #onFailure(error: unknown, signal: AbortSignal): Promise<void> {
    const isExpired = error instanceof KubernetesError && error.isExpired;
    if (isExpired) this.#version = null;
    if (this.#kind.isOptional === true && error instanceof KubernetesError && error.status === 404) {
      this.#version = null;
      this.#at = (this.#at + 1) % this.#paths.length;
      this.#missing += 1;
      // The next version of the API is asked for at once.
      if (this.#missing % this.#paths.length !== 0) return;
      this.#isAbsent = true;
      this.#failures = Math.min(this.#failures, absentFailures);
      return await this.#wait(null, signal);
    }
    // Normal after a pause: listed again at once, the first time.
    if (isExpired && this.#failures === 0) {
      this.#failures = 1;
      return;
    }
    const problem = describeError(error);
    if (problem !== this.#problem) {
      this.#log.warn({ kind: this.#kind.name, problem }, 'what is known of Kubernetes is not renewed');
      this.#problem = problem;
    }
    await this.#wait(error, signal);
  }

  async #wait(failure: unknown, signal: AbortSignal): Promise<void> {
    const { firstMs, longestMs } = this.#backoff;
    const backoffMs = Math.min(longestMs, firstMs * 2 ** Math.min(this.#failures, 16)) * (0.5 + this.#random() / 2);
    const toldMs = failure instanceof KubernetesError ? (failure.retryAfterMs ?? 0) : 0;
    this.#failures++;
    await delay(Math.max(backoffMs, Math.min(toldMs, longestToldMs)), undefined, { signal }).catch(() => undefined);
  }

  #recovered(): void {
    if (this.#problem === null) return;
    this.#problem = null;
    this.#log.info({ kind: this.#kind.name }, 'what is known of Kubernetes is renewed again');
  }

  #told(object: unknown): KubernetesError {
    const status = statusSchema.safeParse(object);
    if (!status.success) return this.#unlike('an error of a watch');
    const { code, message } = status.data;
    return new KubernetesError({
      status: code,
      message: `the watch of ${this.#kind.name} ended with ${code}: ${message.slice(0, 300)}`,
      hint: 'it is tried again',
    });
  }

  #unlike(what: string): KubernetesError {
    return new KubernetesError({
      message: `the Kubernetes API gives ${what} of ${this.#kind.name} that cannot be understood`,
      hint: 'check that the address is that of an API server',
    });
  }
}
