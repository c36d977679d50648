import { z } from 'zod';
import { describeError } from '../../shared/errors.js';
import type { SpiffeId } from '../../shared/identity.js';
import type { Log } from '../../shared/log.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import { workloadName, type NodeName, type WorkloadName } from '../../shared/routing/names.js';
import type { RegistryEntry, WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { spiffeIdSchema, workloadNameSchema } from '../../shared/wire/flows.js';
import { nodeName } from '../../shared/wire/requests.js';

/** Pairs of a node and a workload that are remembered. Beyond it those that ended first are forgotten. */
const maxPairs = 20_000;
/** Identities of one workload on one node. */
const maxIdentities = 16;
/**
 * For this long after a workload left, its node may still report what it saw of it: agents store a busy pair every five
 * minutes, and later while NATS is away.
 */
const lateForMs = 3_600_000;

const endedSchema = z.object({ identity: spiffeIdSchema, untilMs: z.int().min(0) });
const pairSchema = z.object({ node: nodeName, workload: workloadNameSchema, ended: z.array(endedSchema) });
/** `present`: the identity that it had there when it was written. `sinceMs`: {@link WorkloadPlacements.knownSinceMs}. */
const savedSchema = pairSchema.extend({
  present: spiffeIdSchema.exactOptional(),
  sinceMs: z.int().min(0).exactOptional(),
});
const fileSchema = z.array(savedSchema);

/** A workload that ran on a node, with the identities that it had there; the one that ended last is the last. */
type Pair = z.infer<typeof pairSchema>;
type Saved = z.infer<typeof savedSchema>;

/**
 * Where workloads ran before they moved, were deleted or got another identity. The records that a node stored then stay
 * valid, also when they are read again after a restart.
 */
export class WorkloadPlacements {
  readonly #path: string;
  readonly #retentionMs: number;
  readonly #nowMs: () => number;
  readonly #log: Log;
  readonly #entryOf: (key: string) => RegistryEntry | undefined;
  /** What is registered now, by registry key: a change tells only what is there afterwards. */
  readonly #present = new Map<string, WorkloadEntry>();
  /** Those that ended last are the last. */
  readonly #past = new Map<string, Pair>();
  #isSaved = true;
  #knownSinceMs = 0;

  /** `entryOf`: the registry. `present`: the keys that are in it now. */
  constructor(init: {
    readonly path: string;
    readonly retentionMs: number;
    readonly nowMs: () => number;
    readonly log: Log;
    readonly entryOf: (key: string) => RegistryEntry | undefined;
    readonly present: Iterable<string>;
  }) {
    this.#path = init.path;
    this.#retentionMs = init.retentionMs;
    this.#nowMs = init.nowMs;
    this.#log = init.log;
    this.#entryOf = init.entryOf;
    for (const key of init.present) this.#setPresent(key);
  }

  /** From when on it is known where workloads ran; 0: always. A controller of an earlier version did not keep it. */
  get knownSinceMs(): number {
    return this.#knownSinceMs;
  }

  /**
   * Takes what an earlier process saved. What was there when it saved last and is not now left in between, also when that
   * process was killed. Never rejects: without it, records of workloads that are gone prove nothing.
   */
  async restore(): Promise<void> {
    try {
      const text = await readPrivateFile(this.#path);
      this.#isSaved = false;
      if (text === undefined) {
        this.#knownSinceMs = this.#nowMs();
        return;
      }
      const saved = fileSchema.parse(JSON.parse(text));
      this.#knownSinceMs = saved.find(({ sinceMs }) => sinceMs !== undefined)?.sinceMs ?? 0;
      for (const { node, workload, ended } of saved) {
        if (ended.length > 0) this.#past.set(keyOf({ node, workload }), { node, workload, ended });
      }
      const now = new Set(this.#placed().map(({ present, ...pair }) => `${keyOf(pair)} ${present}`));
      for (const { present, ...pair } of saved) {
        if (present === undefined || now.has(`${keyOf(pair)} ${present}`)) continue;
        this.#remember(pair.node, pair.workload, present);
      }
    } catch (error) {
      this.#log.warn({ path: this.#path, problem: describeError(error) }, 'cannot read where workloads ran before');
    }
  }

  /** Writes what has changed since the last call. Errors: `STATE_WRITE`. */
  async save(): Promise<void> {
    if (this.#isSaved) return;
    const oldestMs = this.#nowMs() - this.#retentionMs;
    for (const [key, { ended }] of this.#past) if ((ended.at(-1)?.untilMs ?? 0) < oldestMs) this.#past.delete(key);
    // What changes during the write is written the next time.
    this.#isSaved = true;
    try {
      await writePrivateFile(this.#path, `${JSON.stringify(this.#saved())}\n`);
    } catch (error) {
      this.#isSaved = false;
      throw error;
    }
  }

  /** The entries of these registry keys may have changed. */
  noteChanges(keys: Iterable<string>): void {
    for (const key of keys) {
      const before = this.#present.get(key);
      const now = this.#setPresent(key);
      if (before?.node !== now?.node || before?.identity !== now?.identity) this.#isSaved = false;
      if (before === undefined || before.node === null) continue;
      if (now?.node === before.node && now.identity === before.identity) continue;
      this.#remember(before.node, workloadName(before), before.identity);
    }
  }

  /**
   * Whether the workload ran on the node before, with this identity, and recently enough for a report at `atMs`. `identity`
   * null: any. `atMs` null: whenever.
   */
  ranOn(o: {
    readonly node: NodeName;
    readonly workload: WorkloadName;
    readonly identity: SpiffeId | null;
    readonly atMs: number | null;
  }): boolean {
    const { identity, atMs } = o;
    return (this.#past.get(keyOf(o))?.ended ?? []).some(
      (past) =>
        (identity === null || identity === past.identity) && (atMs === null || atMs <= past.untilMs + lateForMs),
    );
  }

  /** Those that ended last stay the last. */
  #saved(): Saved[] {
    const since = this.#knownSinceMs === 0 ? {} : { sinceMs: this.#knownSinceMs };
    const saved = new Map<string, Saved>();
    for (const pair of this.#past.values()) saved.set(keyOf(pair), { ...pair, ...since });
    for (const { node, workload, present } of this.#placed()) {
      const key = keyOf({ node, workload });
      saved.set(key, { ...(saved.get(key) ?? { node, workload, ended: [], ...since }), present });
    }
    return [...saved.values()];
  }

  #placed(): { node: NodeName; workload: WorkloadName; present: SpiffeId }[] {
    return [...this.#present.values()].flatMap((entry) =>
      entry.node === null ? [] : [{ node: entry.node, workload: workloadName(entry), present: entry.identity }],
    );
  }

  #setPresent(key: string): WorkloadEntry | undefined {
    const entry = this.#entryOf(key);
    if (entry?.kind === 'workload') {
      this.#present.set(key, entry);
      return entry;
    }
    this.#present.delete(key);
    return undefined;
  }

  #remember(node: NodeName, workload: WorkloadName, identity: SpiffeId): void {
    const key = keyOf({ node, workload });
    const others = (this.#past.get(key)?.ended ?? []).filter((past) => past.identity !== identity);
    this.#past.delete(key);
    this.#past.set(key, {
      node,
      workload,
      ended: [...others, { identity, untilMs: this.#nowMs() }].slice(-maxIdentities),
    });
    const [oldest] = this.#past.keys();
    if (this.#past.size > maxPairs && oldest !== undefined) this.#past.delete(oldest);
    this.#isSaved = false;
  }
}

function keyOf({ node, workload }: Pick<Pair, 'node' | 'workload'>): string {
  return `${node} ${workload}`;
}
