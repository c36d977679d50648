import { lockFile, type FileLock, type LockedByOther } from '../../shared/native/file-lock.js';

/** Between two looks whether the file is still the one that is locked. */
const lookEveryMs = 1000;
/** Looks in a row at which the file cannot be locked again, for whatever reason. */
const mostFailures = 2;
/** By then a process that had the lock of a file that was removed has locked the one that was made in its place. */
export const takeBackMs = 3 * lookEveryMs;

/**
 * Keeps the lock of a path, also when a person or a program removes the file: what the kernel locks is the file and not its
 * name, and another process could lock a new file of that name. It looks every second, and locks what is there.
 */
export class KeptLock {
  readonly #path: string;
  readonly #text: string;
  readonly #onTakenBack: () => void;
  readonly #onLost: (why: LockedByOther | Error) => void;
  readonly #timer: NodeJS.Timeout;
  #lock: FileLock;
  #failures = 0;
  #looking: Promise<void> | null = null;

  /**
   * `lock`: that of `path`, which this object releases. `text`: about the owner, see {@link lockFile}. `onLost`: another process
   * has it now, or the path cannot be locked; called at most once, and nothing must be written after it.
   */
  constructor(init: {
    readonly path: string;
    readonly text: string;
    readonly lock: FileLock;
    readonly onTakenBack: () => void;
    readonly onLost: (why: LockedByOther | Error) => void;
  }) {
    this.#path = init.path;
    this.#text = init.text;
    this.#lock = init.lock;
    this.#onTakenBack = init.onTakenBack;
    this.#onLost = init.onLost;
    this.#timer = setInterval(() => {
      this.#looking ??= this.#look().finally(() => (this.#looking = null));
    }, lookEveryMs);
    this.#timer.unref();
  }

  async release(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    await this.#lock.release();
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    try {
      if (await this.#lock.isInPlace()) {
        this.#failures = 0;
        return;
      }
      const found = await lockFile(this.#path, this.#text);
      if ('text' in found) {
        this.#lose(found);
        return;
      }
      const before = this.#lock;
      this.#lock = found;
      this.#failures = 0;
      await before.release();
      this.#onTakenBack();
    } catch (error) {
      this.#failures += 1;
      if (this.#failures >= mostFailures) this.#lose(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #lose(why: LockedByOther | Error): void {
    clearInterval(this.#timer);
    this.#onLost(why);
  }
}
