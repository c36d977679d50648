import { setTimeout as delay } from 'node:timers/promises';
import type { Bus } from '../../shared/bus/bus.js';
import { buckets } from '../../shared/bus/subjects.js';
import type { Log } from '../../shared/log.js';
import {
  newestStatementKey,
  sealNewestStatement,
  statementIntervalMs,
  type NewestStatement,
} from '../../shared/wire/newest-statement.js';

/** Several changes in a row share one statement. */
const changeDelayMs = 1000;

/** Says again and again, signed and with the time, which rules and registry are the newest. */
export class StatementPublisher {
  readonly #newest: () => Promise<Omit<NewestStatement, 'atMs'>>;
  readonly #privateKeyPem: string;
  readonly #nowMs: () => number;
  readonly #log: Log;
  #changed = new AbortController();

  constructor(init: {
    /** What counts: it is on disk, whether it is published yet or not. */
    readonly newest: () => Promise<Omit<NewestStatement, 'atMs'>>;
    readonly privateKeyPem: string;
    readonly nowMs: () => number;
    readonly log: Log;
  }) {
    this.#newest = init.newest;
    this.#privateKeyPem = init.privateKeyPem;
    this.#nowMs = init.nowMs;
    this.#log = init.log;
  }

  /** A statement of this moment. */
  async sealed(): Promise<Uint8Array> {
    const statement = { ...(await this.#newest()), atMs: Math.max(0, Math.floor(this.#nowMs())) };
    return sealNewestStatement({ statement, privateKeyPem: this.#privateKeyPem });
  }

  /** Something newer is published: the next statement is due soon. */
  noteChange(): void {
    this.#changed.abort();
  }

  /** Publishes until the signal aborts. Never rejects: what fails is tried again with the next statement. */
  async run(bus: Bus, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#changed = new AbortController();
      try {
        await (await bus.bucket(buckets.rules)).put(newestStatementKey, await this.sealed());
      } catch (error) {
        this.#log.debug({ err: error }, 'could not publish the statement of the newest rules; retrying');
      }
      await pause(statementIntervalMs - changeDelayMs, AbortSignal.any([signal, this.#changed.signal]));
      await pause(changeDelayMs, signal);
    }
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
}
