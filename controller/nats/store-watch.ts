import { setTimeout as delay } from 'node:timers/promises';
import type { Bus, StoreGuard } from '../../shared/bus/bus.js';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { StateDisk } from './state-disk.js';

export type StoreWatchTimes = {
  readonly checkEveryMs: number;
  /** How long a stream may take for the answer to a question about its state. */
  readonly answerWithinMs: number;
  /** A server that runs and takes no connection for this long hangs. */
  readonly hungAfterMs: number;
  /** Between two restarts; doubles up to ten times this while they do not help. */
  readonly restartEveryMs: number;
};

const defaultTimes: StoreWatchTimes = {
  checkEveryMs: 5000,
  answerWithinMs: 10_000,
  hungAfterMs: 60_000,
  restartEveryMs: 30_000,
};

/** This many checks in a row must fail; one is enough when the disk was full since the last good one. */
const failuresBeforeRestart = 3;

/** This many writes to a bucket in a row must fail, over at least the time that an answer may take. */
const failedWritesBeforeRestart = 3;

/** The words of nats-server for a limit of its settings, which a restart does not change. */
const limitWords = /exceeded|insufficient/;

/** Between two trial writes while nothing seems to be wrong. */
const trialEveryMs = 30_000;

/** The nats-server that this controller runs. */
export type WatchedServer = {
  /** Of the store. */
  readonly disk: StateDisk;
  readonly isRunning: () => boolean;
  readonly restart: (why: string) => Promise<void>;
};

/**
 * Watches the store of NATS, and restarts the embedded server when nothing else helps: a stream of which a write failed on a
 * full disk can hang for good, and JetStream can switch itself off, each without a line in the log of nats-server. While the
 * disk has no room, writes are refused before they reach the server, so that most failures do not come so far.
 * `server`: null for the operator's servers, which are watched only.
 */
export class StoreWatch {
  readonly #server: WatchedServer | null;
  readonly #disk: StateDisk | null;
  #triedAt = Number.NEGATIVE_INFINITY;
  readonly #log: Log;
  readonly #times: StoreWatchTimes;
  #diskProblem: CulvertError | null = null;
  #wasDiskFull = false;
  /** Why the store cannot be used; null while it answers. */
  #stuck: string | null = null;
  #failures = 0;
  /** By bucket: writes that failed since the last good one, though the disk has room. */
  readonly #failedWrites = new Map<string, { count: number; readonly firstAt: number; why: string }>();
  #disconnectedAt: number | null = null;
  #restartAt = Number.NEGATIVE_INFINITY;
  #restarts = 0;
  #wake = new AbortController();

  constructor(init: {
    readonly server: WatchedServer | null;
    /** Of the controller's own state, where the server is not its own. */
    readonly disk?: StateDisk;
    readonly log: Log;
    readonly times?: StoreWatchTimes;
  }) {
    this.#server = init.server;
    this.#disk = init.server?.disk ?? init.disk ?? null;
    this.#log = init.log;
    this.#times = init.times ?? defaultTimes;
  }

  /** What keeps the store from taking writes, and what to do; null when nothing does. */
  get problem(): { readonly name: 'disk' | 'nats-store'; readonly detail: string } | null {
    if (this.#diskProblem !== null) {
      return {
        name: 'disk',
        detail: `${describeError(this.#diskProblem)}; changes are possible again by themselves after that`,
      };
    }
    return this.#stuck === null ? null : { name: 'nats-store', detail: describeError(this.#stuckError(this.#stuck)) };
  }

  readonly guard: StoreGuard = {
    beforeWriting: async (bytes) => {
      try {
        await this.#server?.disk.requireRoom(bytes);
      } catch (error) {
        this.#wake.abort();
        throw error;
      }
      if (this.#stuck !== null) throw this.#stuckError(this.#stuck);
    },
    written: (bucket) => void this.#failedWrites.delete(bucket),
    explain: async (error, unwritten) => {
      this.#wake.abort();
      const found = (await this.#server?.disk.problem()) ?? null;
      if (found !== null) {
        this.#wasDiskFull = true;
        return new CulvertError({
          code: found.code,
          message: found.message,
          ...(found.hint === undefined ? {} : { hint: found.hint }),
          cause: error,
        });
      }
      if (unwritten !== undefined) this.#countFailedWrite(unwritten, error);
      return this.#stuck === null ? error : this.#stuckError(this.#stuck);
    },
  };

  /** Checks until the signal aborts. Never rejects. */
  async run(bus: Bus, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#wake = new AbortController();
      try {
        await this.#check(bus);
      } catch (error) {
        this.#log.error({ err: error }, 'could not check the store of NATS; trying again');
      }
      const woken = AbortSignal.any([signal, this.#wake.signal]);
      await delay(this.#times.checkEveryMs, undefined, { signal: woken }).catch(() => undefined);
      // Several failures at once wake it several times.
      if (!signal.aborted) await delay(this.#times.checkEveryMs / 20, undefined, { signal }).catch(() => undefined);
    }
  }

  async #check(bus: Bus): Promise<void> {
    await this.#checkDisk();
    if (this.#server === null || this.#stuck === null) await this.#checkStore(bus);
    if (this.#stuck !== null && this.#server !== null && this.#diskProblem === null) {
      await this.#restart(this.#server, this.#stuck);
    }
  }

  async #checkDisk(): Promise<void> {
    const disk = this.#disk;
    if (disk === null) return;
    const isSuspect = this.#diskProblem !== null || this.#stuck !== null || this.#failures > 0;
    const isTrial = isSuspect || performance.now() - this.#triedAt > trialEveryMs;
    if (isTrial) this.#triedAt = performance.now();
    const found = isTrial ? await disk.problem() : await roomProblem(disk);
    if (found !== null && this.#server !== null) this.#wasDiskFull = true;
    if (found !== null && this.#diskProblem === null) {
      this.#log.error({ err: found }, 'the state directory takes no writes: changes are refused until it does');
    } else if (found === null && this.#diskProblem !== null) {
      this.#log.info({ freeBytes: disk.space.freeBytes }, 'the disk takes writes again');
    }
    this.#diskProblem = found;
  }

  async #checkStore(bus: Bus): Promise<void> {
    if (bus.status !== 'connected') return this.#noteDisconnected();
    this.#disconnectedAt = null;
    try {
      await bus.checkStore({ timeoutMs: this.#times.answerWithinMs });
      this.#failures = 0;
      const unwritten = this.#takeUnwritten();
      if (unwritten !== null) return this.#note(unwritten);
      // Its operator has mended it, or a write has to show whether it is.
      this.#stuck = null;
      if (this.#diskProblem === null) {
        this.#wasDiskFull = false;
        if (performance.now() > this.#restartAt) this.#restarts = 0;
      }
    } catch (error) {
      this.#failures += 1;
      this.#log.debug({ err: error, failures: this.#failures }, 'the store of NATS does not answer');
      const isDisabled = error instanceof CulvertError && error.code === 'BUS_NOT_FOUND';
      if (!isDisabled && this.#failures < failuresBeforeRestart && !this.#wasDiskFull) return;
      const when = this.#wasDiskFull ? ' since its disk was full' : '';
      this.#note(isDisabled ? `JetStream is switched off${when}` : `the store of nats-server does not answer${when}`);
    }
  }

  #noteDisconnected(): void {
    const now = performance.now();
    this.#disconnectedAt ??= now;
    // One that does not run is started again by its supervisor, and the operator's servers are not ours to judge by that.
    if (this.#server?.isRunning() !== true || now - this.#disconnectedAt < this.#times.hungAfterMs) return;
    this.#note('nats-server runs and takes no connection');
  }

  #note(stuck: string): void {
    if (this.#stuck !== stuck) this.#log.error({ problem: stuck }, 'the store of NATS cannot be used');
    this.#stuck = stuck;
  }

  #countFailedWrite(bucket: string, { code, message }: CulvertError): void {
    const mayHang = code === 'BUS_TIMEOUT' || (code === 'BUS_STORE_FULL' && !limitWords.test(message));
    if (!mayHang) return;
    const failed = this.#failedWrites.get(bucket);
    if (failed === undefined) this.#failedWrites.set(bucket, { count: 1, firstAt: performance.now(), why: message });
    else {
      failed.count += 1;
      failed.why = message;
    }
  }

  /** Which bucket takes no writes though its stream tells its state; null while none is known. Forgets what it returns. */
  #takeUnwritten(): string | null {
    for (const [bucket, { count, firstAt, why }] of this.#failedWrites) {
      if (count < failedWritesBeforeRestart || performance.now() - firstAt < this.#times.answerWithinMs) continue;
      this.#failedWrites.delete(bucket);
      return `nats-server takes no writes: ${why}`;
    }
    return null;
  }

  async #restart(server: WatchedServer, why: string): Promise<void> {
    const now = performance.now();
    if (now < this.#restartAt) return;
    this.#restartAt = now + this.#times.restartEveryMs * Math.min(10, 2 ** this.#restarts);
    this.#restarts += 1;
    await server.restart(why);
    this.#stuck = null;
    this.#failures = 0;
    this.#failedWrites.clear();
    this.#disconnectedAt = null;
    this.#wasDiskFull = false;
  }

  #stuckError(problem: string): CulvertError {
    return new CulvertError({
      code: 'STORE_STUCK',
      message: problem,
      hint:
        this.#server === null
          ? 'look for a full or failing disk on the hosts of your NATS servers, and restart them if they do not recover'
          : 'nats-server is started again by itself when the disk takes writes: wait a minute',
    });
  }
}

async function roomProblem(disk: StateDisk): Promise<CulvertError | null> {
  try {
    await disk.requireRoom();
    return null;
  } catch (error) {
    if (error instanceof CulvertError) return error;
    throw error;
  }
}
