import { isDeepStrictEqual } from 'node:util';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import { differenceOf, statusPatch, type ObjectStatus } from './object-status.js';
import type { RuleObject } from './rule-object.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';
import { WritePauses } from './write-pauses.js';

/** Of one turn, which its owner makes once a second. */
const maxWritesPerTurn = 20;
/** A status that differs only in the number of agents is not written sooner after the last time. */
const numbersEveryMs = 30_000;
/** What concerns the meaning goes before numbers, unless these have waited so much longer. */
const numbersWaitMs = 30_000;
/** A status that was written and did not come back in a watch is written again. */
const againAfterMs = 30_000;
/** One that came back and that another wrote over then, but not sooner than this after it was written. */
const overwrittenMs = 3000;
const timeoutMs = 5000;
const pauses = { firstMs: 1000, longestMs: 60_000 };

type Refusal = { readonly failures: number; readonly notBeforeMs: number; readonly problem: string };

export type StatusToWrite = { readonly object: RuleObject; readonly status: ObjectStatus };

/**
 * Writes what the controller says of objects into them, by PATCH of the subresource `status`, which raises no generation. It
 * writes what differs only, so its own writes cause none; at most {@link maxWritesPerTurn} a second; and pauses longer and
 * longer while the API server refuses. One object that it refuses waits alone. `nowMs`: of the clock; `elapsedMs` of a clock
 * that never goes back.
 */
export class StatusWriter {
  readonly #api: Pick<KubernetesApi, 'send'>;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #elapsedMs: () => number;
  /** When the status of an object was written last, and what it was. */
  readonly #written = new Map<string, { readonly atMs: number; readonly status: ObjectStatus; cameBack: boolean }>();
  /** Since when objects wait: the one that has waited longest is next. */
  readonly #waiting = new Map<string, number>();
  /** Objects whose status is refused, and when they are tried again. */
  readonly #refused = new Map<string, Refusal>();
  readonly #pauses: WritePauses;

  constructor(init: {
    readonly api: Pick<KubernetesApi, 'send'>;
    readonly log: Log;
    readonly nowMs: () => number;
    readonly elapsedMs?: () => number;
  }) {
    this.#api = init.api;
    this.#log = init.log;
    this.#nowMs = init.nowMs;
    this.#elapsedMs = init.elapsedMs ?? (() => performance.now());
    const what = 'the status of custom resources';
    this.#pauses = new WritePauses({ what, log: init.log, ...pauses, elapsedMs: this.#elapsedMs });
  }

  /** Why objects may not show what is in force; null: they do, or will soon. */
  get problem(): string | null {
    const [first] = this.#refused.values();
    return this.#pauses.problem ?? first?.problem ?? null;
  }

  /**
   * One turn. Never rejects. What concerns the meaning goes before mere numbers, and what has waited longest first: objects
   * that change all the time hold up no other.
   */
  async write(wanted: readonly StatusToWrite[], signal: AbortSignal): Promise<void> {
    if (this.#pauses.isPausing) return;
    this.#forget(wanted);
    const due = wanted.flatMap((each) => {
      const difference = this.#differenceOf(each);
      const { key } = each.object;
      if (difference === 'none') {
        this.#waiting.delete(key);
        return [];
      }
      const sinceMs = this.#waiting.get(key) ?? this.#elapsedMs();
      this.#waiting.set(key, sinceMs);
      return [{ ...each, rankMs: sinceMs + (difference === 'meaning' ? 0 : numbersWaitMs) }];
    });
    const first = due.sort((a, b) => a.rankMs - b.rankMs).slice(0, maxWritesPerTurn);
    for (const each of first) {
      // Where it fails, the next turn begins with another, also with one that was seen in the same millisecond.
      this.#waiting.set(each.object.key, this.#elapsedMs() + 1);
      if (!(await this.#writeOne(each, signal))) return;
      this.#waiting.delete(each.object.key);
    }
  }

  #differenceOf({ object, status }: StatusToWrite): 'none' | 'numbers' | 'meaning' {
    const difference = differenceOf(status, object.status);
    if (this.#elapsedMs() < (this.#refused.get(object.key)?.notBeforeMs ?? 0)) return 'none';
    const last = this.#written.get(object.key);
    if (last !== undefined && difference === 'none') last.cameBack = true;
    if (last === undefined || difference === 'none') return difference;
    const sinceMs = this.#elapsedMs() - last.atMs;
    // The write is on its way back through the watch.
    if (isDeepStrictEqual(last.status, status))
      return sinceMs < (last.cameBack ? overwrittenMs : againAfterMs) ? 'none' : difference;
    return difference === 'numbers' && sinceMs < numbersEveryMs ? 'none' : difference;
  }

  async #writeOne({ object, status }: StatusToWrite, signal: AbortSignal): Promise<boolean> {
    const { statusPath: path } = object;
    if (path === null) return true;
    const body = statusPatch(status, object.status, `${new Date(this.#nowMs()).toISOString().slice(0, 19)}Z`);
    const what = { method: 'PATCH', path, body, type: 'application/merge-patch+json' } as const;
    try {
      await this.#api.send(what, AbortSignal.any([signal, timeoutSignal(timeoutMs)]));
    } catch (error) {
      // It is gone, and the watch tells of that.
      const isGone = error instanceof KubernetesError && error.status === 404;
      if (!isGone) return this.#onFailure(error, object, signal);
    }
    this.#refused.delete(object.key);
    this.#written.set(object.key, { atMs: this.#elapsedMs(), status, cameBack: false });
    this.#pauses.succeeded();
    return true;
  }

  /** Whether others can be written. */
  #onFailure(error: unknown, { key, name }: RuleObject, { aborted }: AbortSignal): boolean {
    if (aborted) return false;
    if (isAboutObject(error)) {
      const { failures = 0 } = this.#refused.get(key) ?? {};
      const problem = `the status of ${name} cannot be written: ${describeError(error)}`;
      if (failures === 0)
        this.#log.warn({ err: error, object: name }, 'the status of a custom resource cannot be written');
      const notBeforeMs = this.#elapsedMs() + this.#pauses.pauseMs(failures);
      this.#refused.set(key, { failures: failures + 1, notBeforeMs, problem });
      return true;
    }
    this.#pauses.failed(error);
    return false;
  }

  #forget(wanted: readonly StatusToWrite[]): void {
    if (Math.max(this.#written.size, this.#waiting.size) <= wanted.length && this.#refused.size === 0) return;
    const keys = new Set(wanted.map(({ object }) => object.key));
    for (const known of [this.#written, this.#refused, this.#waiting]) {
      for (const key of known.keys()) if (!keys.has(key)) known.delete(key);
    }
  }
}

/** The API server refuses what is written, and would take that of others. */
function isAboutObject(error: unknown): boolean {
  const status = error instanceof KubernetesError ? error.status : null;
  return status !== null && status >= 400 && status < 500 && ![401, 403, 408, 429].includes(status);
}
