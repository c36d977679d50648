import type { Heartbeat } from '../../../shared/wire/requests.js';
import { openNewestStatement } from '../../../shared/wire/newest-statement.js';
import type { Log } from '../../../shared/log.js';
import type { AgentSettings } from '../../config/agent-settings.js';
import type { WorkerPool } from '../../dataplane/pool/worker-pool.js';
import type { NodeCredentials } from '../credentials/node-credentials.js';
import type { StateDirectory } from '../state/state-directory.js';
import type { StateSaver } from '../state/state-saver.js';
import { RulesAge, type RulesAgeAlarm } from './rules-age.js';

/** What is on disk is this much older at most: a write for each statement would be one every 30 s on every host. */
const saveEveryMs = 300_000;

/** Keeps the age of the rules on disk, and tells the workers when they are too old. */
export class RulesAgeKeeper {
  readonly age: RulesAge;
  readonly #pool: Pick<WorkerPool, 'send'>;
  readonly #saver: StateSaver;
  #savedAt = Number.NEGATIVE_INFINITY;
  #isRefusing = false;

  constructor(init: {
    readonly settings: Pick<AgentSettings, 'rulesMaxAgeMs' | 'rulesPastAge' | 'resyncIntervalMs'>;
    readonly credentials: () => NodeCredentials;
    readonly pool: Pick<WorkerPool, 'send' | 'enforcedRevision' | 'registeredSequence'>;
    readonly directory: Pick<StateDirectory, 'newest'>;
    readonly saver: (write: () => Promise<void>) => StateSaver;
    readonly log: Log;
    readonly onAlarm: (kind: RulesAgeAlarm) => void;
  }) {
    const { settings, pool, directory } = init;
    this.#pool = pool;
    this.age = new RulesAge({
      open: (bytes) => openNewestStatement({ bytes, publicKeysPem: init.credentials().signingPublicKeys }),
      enforced: () => ({ revision: pool.enforcedRevision, registrySequence: pool.registeredSequence }),
      // Statements are read that often.
      maxAgeMs: Math.max(settings.rulesMaxAgeMs, 2 * settings.resyncIntervalMs),
      refuses: settings.rulesPastAge === 'refuse',
      nowMs: Date.now,
      monotonicMs: () => performance.now(),
      log: init.log,
      onAlarm: init.onAlarm,
    });
    this.#saver = init.saver(() =>
      directory.newest.write(this.age.statements.map((sealed) => Buffer.from(sealed).toString('base64'))),
    );
    const { newest } = init.credentials();
    if (newest !== undefined) this.age.take(Buffer.from(newest, 'base64'), 'kept');
  }

  /** `statements`: those on disk. */
  restore(statements: readonly Uint8Array[]): void {
    for (const sealed of statements) this.age.take(sealed, 'kept');
    this.check();
  }

  /** A statement from NATS. */
  take(sealed: Uint8Array): void {
    this.age.take(sealed, 'nats');
    this.check();
    if (performance.now() - this.#savedAt < saveEveryMs) return;
    this.#savedAt = performance.now();
    this.#saver.schedule();
  }

  /** For the heartbeat, so that it is judged again every few seconds. */
  report(): Pick<Heartbeat, 'rulesAgeProblem'> {
    this.check();
    const { problem } = this.age;
    return problem === null ? {} : { rulesAgeProblem: problem };
  }

  /** Tells the workers when they have to refuse, and when no longer. */
  check(): void {
    const tooOld = this.age.check();
    if (this.#isRefusing === (tooOld !== null)) return;
    this.#isRefusing = tooOld !== null;
    this.#pool.send({ type: 'rulesAge', tooOld });
  }

  /** See `StateSaver`. */
  abandon(): Promise<void> {
    return this.#saver.abandon();
  }

  /** See `StateSaver`. */
  close(): Promise<void> {
    return this.#saver.close();
  }
}
