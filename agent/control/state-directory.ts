import { join } from 'node:path';
import type { Log } from '../../shared/log.js';
import { ChecksummedFile } from './checksummed-file.js';
import {
  capturedNamespacesSchema,
  encodeLastGoodState,
  lastGoodStateSchema,
  type CapturedNamespaces,
  type LastGoodState,
} from './last-good-state.js';
import { nodeCredentialsSchema, type NodeCredentials } from './node-credentials.js';

const saveDelayMs = 200;
const saveRetryMs = 10_000;

/**
 * What the agent keeps on disk, a file each, so that damage to one does not cost the others: `credentials.json` (the
 * membership), `state.json` (the last good state) and `captured.json` (where capture rules may be).
 */
export class StateDirectory {
  readonly credentials: ChecksummedFile<NodeCredentials>;
  readonly captured: ChecksummedFile<CapturedNamespaces>;
  readonly #state: ChecksummedFile<unknown>;

  constructor(init: { readonly path: string }) {
    this.credentials = new ChecksummedFile({
      path: join(init.path, 'credentials.json'),
      parse: (value) => nodeCredentialsSchema.parse(value),
    });
    this.captured = new ChecksummedFile({
      path: join(init.path, 'captured.json'),
      parse: (value) => capturedNamespacesSchema.parse(value),
    });
    this.#state = new ChecksummedFile<unknown>({ path: join(init.path, 'state.json'), parse: (value) => value });
  }

  /** Undefined when there is none, or it is damaged: that is logged, with the name of the file it was moved to. */
  async readCredentials(log: Log): Promise<NodeCredentials | undefined> {
    return readOrExplain(this.credentials, log, 'the host has to join again');
  }

  async readCaptured(log: Log): Promise<CapturedNamespaces> {
    const found = await readOrExplain(this.captured, log, 'rules of workloads that left meanwhile are not found');
    return found ?? { namespaces: [] };
  }

  async readState(log: Log): Promise<LastGoodState | undefined> {
    const file = new ChecksummedFile({ path: this.#state.path, parse: (value) => lastGoodStateSchema.parse(value) });
    return readOrExplain(file, log, 'nothing is let through until fresh rules arrive');
  }

  async writeState(state: LastGoodState): Promise<void> {
    await this.#state.write(encodeLastGoodState(state));
  }
}

async function readOrExplain<T>(file: ChecksummedFile<T>, log: Log, consequence: string): Promise<T | undefined> {
  const stored = await file.read();
  if (stored.kind === 'corrupt') {
    const { movedTo, problem } = stored;
    log.error({ file: file.path, movedTo, problem }, `a state file is damaged and was moved aside: ${consequence}`);
  }
  return stored.kind === 'loaded' ? stored.value : undefined;
}

/**
 * Writes the last good state soon after it changed: changes of 200 ms share one write. A full disk costs nothing but
 * the copy on it; the agent goes on and tries again every 10 s.
 */
export class StateSaver {
  readonly #write: () => Promise<void>;
  readonly #log: Log;
  readonly #onFailure: () => void;
  #timer: NodeJS.Timeout | null = null;
  #problem: string | null = null;
  #saving: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(init: {
    /** Collects the state of this moment and writes it. */
    readonly write: () => Promise<void>;
    readonly log: Log;
    readonly onFailure: () => void;
  }) {
    this.#write = init.write;
    this.#log = init.log;
    this.#onFailure = init.onFailure;
  }

  /** Why the newest state is not on disk; null when it is, or is about to be. */
  get problem(): string | null {
    return this.#problem;
  }

  schedule(): void {
    this.#saveIn(saveDelayMs);
  }

  /** Waits for a write that runs, and writes what is waiting, once, whether it succeeds or not. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#saving;
    if (this.#timer !== null || this.#problem !== null) await this.#save();
  }

  #saveIn(delayMs: number): void {
    if (this.#isClosed) return;
    this.#timer ??= setTimeout(() => {
      this.#saving = this.#save();
    }, delayMs);
  }

  async #save(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    try {
      await this.#write();
      if (this.#problem !== null) this.#log.info('the last good state is on disk again');
      this.#problem = null;
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      this.#onFailure();
      if (this.#problem !== problem) {
        this.#log.error({ err: error }, 'the last good state is not on disk; the agent goes on with what it has');
      }
      this.#problem = problem;
      this.#saveIn(saveRetryMs);
    }
  }
}
