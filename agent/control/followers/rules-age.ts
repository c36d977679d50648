import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import type { NewestStatement } from '../../../shared/wire/newest-statement.js';

/** A statement that says more than what is in force is an alarm after this: a change reaches an agent in seconds. */
const behindAlarmMs = 120_000;
/** A statement from further ahead than this was made by a clock that was wrong. */
const clockToleranceMs = 60_000;
/** Two statements are due in it. After that nothing says that the installation has not come back. */
const uninstalledMs = 60_000;
/** Three days of statements, one every 30 s. */
const mostRemembered = 10_000;

/** What every worker of this agent enforces; null: nothing yet. */
export type Enforced = { readonly revision: number | null; readonly registrySequence: number | null };

export type RulesAgeAlarm = 'old' | 'unusable';

type Received = {
  readonly statement: NewestStatement;
  readonly sealed: Uint8Array;
  /** On a clock that cannot be set. */
  readonly receivedAt: number;
};

/**
 * How long ago the controller last said that what this agent enforces is the newest. Time counts on two clocks: since the
 * statement was made, and since it came here, whichever is longer. So it cannot be hidden by setting the host's clock back, nor
 * by showing an old statement to an agent that has none yet. It is as exact as the clocks of host and controller.
 */
export class RulesAge {
  readonly #init: RulesAgeInit;
  readonly #startedAt: number;
  #newest: Received | null = null;
  #confirmed: Received | null = null;
  /** What the connection showed last, whether it was known before or not. */
  #shown: Omit<Received, 'sealed'> | null = null;
  /** When the statements that counted were made, the last ones. None counts twice, or showing two in turn would hide the age. */
  readonly #counted = new Set<number>();
  /** The first statement since {@link #confirmed} that names something newer than what is in force. */
  #unmet: Received | null = null;
  #lastAlarm = '';
  #lastRefused = '';

  constructor(init: RulesAgeInit) {
    this.#init = init;
    this.#startedAt = init.monotonicMs();
  }

  /** No revision below this one is the newest. */
  get leastRevision(): number {
    return this.#newest?.statement.revision ?? 0;
  }

  /**
   * The controller says that this installation is being taken away: the newest statement does, it is young on both clocks, and
   * the connection has shown it since `sinceMs`, on the clock that cannot be set. One from the disk, or from before an outage,
   * does not count: the installation may have come back meanwhile.
   */
  isUninstalled(sinceMs: number): boolean {
    if (this.#newest === null || this.#shown === null || this.#shown.receivedAt < sinceMs) return false;
    const { statement, receivedAt } = this.#newest;
    if (this.#shown.statement.atMs !== statement.atMs || this.#shown.statement.isUninstalled !== true) return false;
    const { nowMs, monotonicMs } = this.#init;
    return Math.abs(nowMs() - statement.atMs) <= uninstalledMs && monotonicMs() - receivedAt <= uninstalledMs;
  }

  /** The statements to keep on disk, for {@link take} after a restart. */
  get statements(): Uint8Array[] {
    return [this.#confirmed, this.#newest].flatMap((each) => (each === null ? [] : [each.sealed]));
  }

  /** Takes a statement that NATS shows now, or one kept since before. One that is older than the newest changes nothing. */
  take(sealed: Uint8Array, from: 'nats' | 'kept'): void {
    let statement;
    try {
      statement = this.#init.open(sealed);
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#lastRefused) this.#tell('unusable', problem, 'a statement of the newest rules is refused');
      this.#lastRefused = problem;
      return;
    }
    this.#lastRefused = '';
    if (from === 'nats') this.#shown = { statement, receivedAt: this.#init.monotonicMs() };
    if (this.#counted.has(statement.atMs) || !this.#isNewer(statement)) return;
    this.#remember(statement.atMs);
    this.#newest = { statement, sealed, receivedAt: this.#init.monotonicMs() };
    this.#settle();
  }

  /** Null: no controller has ever made a statement, as versions before it do not. */
  get ageMs(): number | null {
    this.#settle();
    const since = this.#confirmed ?? this.#unmet;
    if (since === null) return null;
    const { nowMs, monotonicMs } = this.#init;
    return Math.max(0, nowMs() - since.statement.atMs, monotonicMs() - since.receivedAt);
  }

  /** What is wrong with the age; null: nothing. */
  get problem(): string | null {
    const { ageMs } = this;
    if (this.#isPast(ageMs)) {
      const since = ageMs === null ? 'since the agent started' : `for ${describeAge(ageMs)}`;
      return `the controller has not confirmed ${since} that the rules here are the newest: it is away, something withholds what it says, or a clock is wrong`;
    }
    const { monotonicMs, enforced } = this.#init;
    if (this.#unmet === null || monotonicMs() - this.#unmet.receivedAt < behindAlarmMs) return null;
    const { revision, registrySequence } = this.#unmet.statement;
    const here = enforced();
    return `the controller says that revision ${revision} and registry ${registrySequence} are the newest, and here are revision ${here.revision ?? 'none'} and registry ${here.registrySequence ?? 'none'}`;
  }

  /** Why new connections are to be refused; null: they are not. Tells each new problem once. Call it every few seconds. */
  check(): string | null {
    const { problem } = this;
    // The age in it changes all the time.
    const told = problem?.replace(/ for \d+ \w+ /, ' ') ?? '';
    if (problem !== null && told !== this.#lastAlarm) this.#tell('old', problem, 'the rules here may be old');
    this.#lastAlarm = told;
    return this.isRefusing ? problem : null;
  }

  /** New connections are to be refused. */
  get isRefusing(): boolean {
    return this.#init.refuses && this.#isPast(this.ageMs);
  }

  /** Who asks to refuse is not satisfied with a controller that never says anything. */
  #isPast(ageMs: number | null): boolean {
    const { maxAgeMs, refuses, monotonicMs } = this.#init;
    if (ageMs === null) return refuses && monotonicMs() - this.#startedAt > maxAgeMs;
    return ageMs > maxAgeMs;
  }

  /** While the newest is from the future, its clock was wrong, and every one that is not is better. */
  #isNewer({ atMs }: NewestStatement): boolean {
    if (this.#newest === null) return true;
    const present = this.#newest.statement.atMs;
    const latest = this.#init.nowMs() + clockToleranceMs;
    return atMs > present || (present > latest && atMs <= latest);
  }

  #remember(atMs: number): void {
    this.#counted.add(atMs);
    if (this.#counted.size <= mostRemembered) return;
    for (const oldest of this.#counted) {
      this.#counted.delete(oldest);
      return;
    }
  }

  #settle(): void {
    if (this.#newest === null) return;
    const { revision, registrySequence } = this.#init.enforced();
    const { statement } = this.#newest;
    // Nothing fulfils a statement of a mesh that has nothing yet.
    if ((revision ?? 0) >= statement.revision && (registrySequence ?? 0) >= statement.registrySequence) {
      this.#confirmed = this.#newest;
      this.#unmet = null;
    } else this.#unmet ??= this.#newest;
  }

  #tell(kind: RulesAgeAlarm, problem: string, message: string): void {
    this.#init.onAlarm(kind);
    this.#init.log.error({ alarm: kind, problem }, message);
  }
}

function describeAge(ageMs: number): string {
  const minutes = Math.floor(ageMs / 60_000);
  return minutes < 120 ? `${minutes} minutes` : `${Math.floor(minutes / 60)} hours`;
}

type RulesAgeInit = {
  /** Checks signature and shape; throws if either is wrong. */
  readonly open: (sealed: Uint8Array) => NewestStatement;
  readonly enforced: () => Enforced;
  readonly maxAgeMs: number;
  /** New connections are refused past that age. */
  readonly refuses: boolean;
  readonly nowMs: () => number;
  /** A clock that only moves forward. */
  readonly monotonicMs: () => number;
  readonly log: Log;
  readonly onAlarm: (kind: RulesAgeAlarm) => void;
};
