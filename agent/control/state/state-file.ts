import { rename } from 'node:fs/promises';
import { type Deferred, newDeferred } from '../../../shared/deferred.js';
import { describeError } from '../../../shared/errors.js';
import { assertPrivateFileWritable, readPrivateBytes, writePrivateFile } from '../../../shared/private-file.js';

export type StoredState<T> =
  | { readonly kind: 'loaded'; readonly value: T }
  | { readonly kind: 'absent' }
  /** The file was damaged and has been moved to `movedTo`. */
  | { readonly kind: 'corrupt'; readonly movedTo: string; readonly problem: string };

/**
 * One value on disk that survives a crash at any moment, see {@link writePrivateFile}. Writes run one after another,
 * and while one runs only the newest of the waiting values is kept.
 */
export class StateFile<T> {
  readonly path: string;
  readonly #encode: (value: T) => string | Uint8Array;
  readonly #decode: (bytes: Buffer) => T;
  #isWriting = false;
  #next: { readonly value: T; readonly done: Deferred } | null = null;

  /** `decode` checks what was read and throws if something is wrong. */
  constructor(init: {
    readonly path: string;
    readonly encode: (value: T) => string | Uint8Array;
    readonly decode: (bytes: Buffer) => T;
  }) {
    this.path = init.path;
    this.#encode = init.encode;
    this.#decode = init.decode;
  }

  /**
   * Reads the value. A damaged file is moved to `<path>.corrupt-<time>`: it is neither deleted nor used. Throws
   * CulvertError `STATE_READ` if the file system fails.
   */
  async read(): Promise<StoredState<T>> {
    const bytes = await readPrivateBytes(this.path);
    if (bytes === undefined) return { kind: 'absent' };
    try {
      return { kind: 'loaded', value: this.#decode(bytes) };
    } catch (error) {
      const movedTo = `${this.path}.corrupt-${new Date().toISOString().replaceAll(':', '-')}`;
      await rename(this.path, movedTo);
      return { kind: 'corrupt', movedTo, problem: describeError(error) };
    }
  }

  /** Proves that a value of this size can be written now. Rejects with CulvertError `STATE_WRITE`. */
  async assertWritable(bytes: number): Promise<void> {
    await assertPrivateFileWritable(this.path, bytes);
  }

  /**
   * Resolves when this value or a newer one is on disk. Rejects with CulvertError `STATE_WRITE`; the old file stays.
   */
  async write(value: T): Promise<void> {
    const done = this.#next?.done ?? newDeferred();
    this.#next = { value, done };
    if (!this.#isWriting) void this.#writeWaiting();
    await done.promise;
  }

  async #writeWaiting(): Promise<void> {
    this.#isWriting = true;
    for (let job = this.#next; job !== null; job = this.#next) {
      this.#next = null;
      try {
        await writePrivateFile(this.path, this.#encode(job.value), { forOwnerOfDirectory: true });
        job.done.resolve();
      } catch (error) {
        job.done.reject(error);
      }
    }
    this.#isWriting = false;
  }
}
