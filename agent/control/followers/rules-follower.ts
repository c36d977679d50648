import { createHash } from 'node:crypto';
import type { Bucket } from '../../../shared/bus/bucket.js';
import { rulesPointerKey } from '../../../shared/bus/subjects.js';
import { CulvertError, describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { restoredBackup } from './registry-refusals.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { rulesPointerSchema, type RulesPointer } from '../../../shared/wire/rules-pointer.js';

/** What a check of the pointer found. */
export type PointerState =
  | 'current'
  /** There is no pointer: the store is new, or was wiped. */
  | 'absent'
  /**
   * It names an older revision than the one in force, or the same revision with other content; or, while none is in force, an
   * older one than the controller has said to be the newest.
   */
  | 'backwards'
  /** The snapshot that it names is missing, damaged, not signed by a pinned key, or cannot be evaluated. */
  | 'unusable'
  /** The store did not answer. */
  | 'unknown';

/** Alarms, as the label `kind` of the metric `culvert_rules_alarms_total`. */
export type RulesAlarm = Extract<PointerState, 'backwards' | 'unusable'>;

export type AppliedRules = { readonly snapshot: Snapshot; readonly sealed: Uint8Array };

/**
 * Follows the pointer to the snapshot in force. A snapshot is applied as a whole or not at all: its hash must be the one
 * in the pointer, a pinned key must have signed it, its trust domain must be ours, and its revision must be above the one
 * in force. In every other case the last good rules stay in force.
 */
export class RulesFollower {
  readonly #bucket: Bucket;
  readonly #open: (sealed: Uint8Array) => Snapshot;
  readonly #log: Log;
  readonly #onRules: (rules: AppliedRules) => void;
  readonly #onAlarm: (kind: RulesAlarm) => void;
  readonly #trustDomain: string;
  readonly #leastRevision: () => number;
  #applied: { readonly revision: number; readonly sha256: string } | null;
  #turn: Promise<unknown> = Promise.resolve();
  /** The last problem that was reported, so that the resync every 30 s does not report it again. */
  #lastAlarm = '';

  constructor(init: {
    readonly bucket: Bucket;
    readonly trustDomain: string;
    /** Checks the signature and the shape. Throws when one of them is wrong. */
    readonly open: (sealed: Uint8Array) => Snapshot;
    /** The rules already in force, from disk. */
    readonly applied: AppliedRules | null;
    /** The controller has signed that this revision exists. */
    readonly leastRevision: () => number;
    readonly log: Log;
    /** Puts the rules in force. When it throws, that is an alarm, like a wrong signature. */
    readonly onRules: (rules: AppliedRules) => void;
    readonly onAlarm: (kind: RulesAlarm) => void;
  }) {
    this.#bucket = init.bucket;
    this.#open = init.open;
    this.#log = init.log;
    this.#onRules = init.onRules;
    this.#onAlarm = init.onAlarm;
    this.#trustDomain = init.trustDomain;
    this.#leastRevision = init.leastRevision;
    this.#applied =
      init.applied === null ? null : { revision: init.applied.snapshot.revision, sha256: sha256(init.applied.sealed) };
  }

  /** Reads the pointer and switches to the snapshot that it names. Checks run one after another. Never rejects. */
  check(): Promise<PointerState> {
    const turn = this.#turn.then(() => this.#poll());
    this.#turn = turn;
    return turn;
  }

  /** Why the last check refused the rules in the store; null when it did not. */
  get alarm(): string | null {
    return this.#lastAlarm === '' ? null : this.#lastAlarm;
  }

  async #poll(): Promise<PointerState> {
    let entry;
    try {
      entry = await this.#bucket.get(rulesPointerKey);
    } catch (error) {
      this.#log.debug({ err: error }, 'could not read the rules pointer');
      return 'unknown';
    }
    if (entry === undefined) return 'absent';
    const pointer = parsePointer(entry.value);
    if (pointer === null) return this.#alarm('unusable', 'the rules pointer cannot be read');
    if (this.#applied !== null && pointer.revision <= this.#applied.revision) {
      if (pointer.revision === this.#applied.revision && pointer.sha256 === this.#applied.sha256) {
        this.#lastAlarm = '';
        return 'current';
      }
      const { revision } = this.#applied;
      return this.#alarm(
        'backwards',
        pointer.revision === revision
          ? `revision ${revision} is in force, and the store now has other content under that number: ${restoredBackup}`
          : `revision ${revision} is in force, and the store now says ${pointer.revision}: ${restoredBackup}`,
      );
    }
    // Rules in force may be followed by any newer ones, although these are not the newest. Without any, old ones are a replay.
    const least = this.#leastRevision();
    if (this.#applied === null && pointer.revision < least) {
      const problem = `the store says ${pointer.revision}, and the controller has signed that there is revision ${least}`;
      return this.#alarm('backwards', problem);
    }
    return this.#take(pointer);
  }

  async #take(pointer: RulesPointer): Promise<PointerState> {
    let sealed: Uint8Array | undefined;
    try {
      sealed = (await this.#bucket.get(pointer.key))?.value;
    } catch (error) {
      this.#log.debug({ err: error, revision: pointer.revision }, 'could not read the snapshot');
      return 'unknown';
    }
    if (sealed === undefined) return this.#alarm('unusable', `the snapshot of revision ${pointer.revision} is missing`);
    try {
      if (sha256(sealed) !== pointer.sha256) throw new Error('its hash differs from the one in the pointer');
      const snapshot = this.#open(sealed);
      this.#assertFits(snapshot, pointer);
      this.#onRules({ snapshot, sealed });
      this.#log.info({ revision: snapshot.revision, createdBy: snapshot.createdBy }, 'rules received');
    } catch (error) {
      return this.#alarm(
        'unusable',
        `the snapshot of revision ${pointer.revision} is refused: ${describeError(error)}`,
      );
    }
    this.#applied = { revision: pointer.revision, sha256: pointer.sha256 };
    this.#lastAlarm = '';
    return 'current';
  }

  #assertFits(snapshot: Snapshot, pointer: RulesPointer): void {
    if (snapshot.revision !== pointer.revision) {
      throw new CulvertError({
        code: 'REVISION_MISMATCH',
        message: `it says that it is revision ${snapshot.revision}`,
      });
    }
    if (snapshot.trustDomain !== this.#trustDomain) {
      throw new CulvertError({
        code: 'TRUST_DOMAIN_MISMATCH',
        message: `it belongs to the trust domain ${snapshot.trustDomain}`,
      });
    }
  }

  #alarm(kind: RulesAlarm, problem: string): RulesAlarm {
    if (this.#lastAlarm !== problem) {
      this.#lastAlarm = problem;
      this.#onAlarm(kind);
      this.#log.error(
        { alarm: kind, problem, revisionInForce: this.#applied?.revision ?? null },
        'rules refused; the last good ones stay in force',
      );
    }
    return kind;
  }
}

function parsePointer(bytes: Uint8Array): RulesPointer | null {
  try {
    return rulesPointerSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch {
    return null;
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
