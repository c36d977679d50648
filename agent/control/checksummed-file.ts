import { createHash } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { describeError } from '../../shared/errors.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

export type StoredState<T> =
  | { readonly kind: 'loaded'; readonly value: T }
  | { readonly kind: 'absent' }
  /** The file could not be believed and now lies at `movedTo`. */
  | { readonly kind: 'corrupt'; readonly movedTo: string; readonly problem: string };

const format = 'culvert-state';
const version = 1;

/**
 * One JSON value on disk that survives a crash at any moment, see {@link writePrivateFile}; the first line carries the
 * SHA-256 of the rest. Writes of one object are done one after another, and while one runs only the newest of those
 * that wait is kept.
 */
export class ChecksummedFile<T> {
  readonly path: string;
  readonly #parse: (value: unknown) => T;
  #isWriting = false;
  #next: { readonly value: T; readonly done: PromiseWithResolvers<void> } | null = null;

  /** `parse` checks the shape of what was read and throws when it is wrong. */
  constructor(init: { readonly path: string; readonly parse: (value: unknown) => T }) {
    this.path = init.path;
    this.#parse = init.parse;
  }

  /**
   * Reads the value. A file that is damaged is moved aside to `<path>.corrupt-<time>`, never deleted and never believed.
   * Throws CulvertError `STATE_READ` when the file system refuses.
   */
  async read(): Promise<StoredState<T>> {
    const text = await readPrivateFile(this.path);
    if (text === undefined) return { kind: 'absent' };
    try {
      return { kind: 'loaded', value: this.#parse(decode(text)) };
    } catch (error) {
      const movedTo = `${this.path}.corrupt-${new Date().toISOString().replaceAll(':', '-')}`;
      await rename(this.path, movedTo);
      return { kind: 'corrupt', movedTo, problem: describeError(error) };
    }
  }

  /** Resolves when this value, or a newer one, is on disk. Rejects with CulvertError `STATE_WRITE`; the old file stays. */
  async write(value: T): Promise<void> {
    const done = this.#next?.done ?? withResolvers();
    this.#next = { value, done };
    if (!this.#isWriting) void this.#writeWaiting();
    await done.promise;
  }

  async #writeWaiting(): Promise<void> {
    this.#isWriting = true;
    for (let job = this.#next; job !== null; job = this.#next) {
      this.#next = null;
      try {
        await writePrivateFile(this.path, encode(job.value));
        job.done.resolve();
      } catch (error) {
        job.done.reject(error);
      }
    }
    this.#isWriting = false;
  }
}

type PromiseWithResolvers<V> = {
  readonly promise: Promise<V>;
  readonly resolve: (value: V) => void;
  readonly reject: (error: unknown) => void;
};

/** Promise.withResolvers, which Node 20 does not have. */
function withResolvers(): PromiseWithResolvers<void> {
  let resolve: () => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

function encode(value: unknown): string {
  const body = JSON.stringify(value);
  const header = { format, version, sha256: sha256(body) };
  return `${JSON.stringify(header)}\n${body}\n`;
}

function decode(text: string): unknown {
  const end = text.indexOf('\n');
  const header: unknown = JSON.parse(end < 0 ? text : text.slice(0, end));
  const body = text.slice(end + 1, -1);
  if (typeof header !== 'object' || header === null) throw new Error('the header is missing');
  const { format: foundFormat, version: foundVersion, sha256: expected } = header as Record<string, unknown>;
  if (foundFormat !== format || foundVersion !== version) throw new Error('it is not a state file of this version');
  if (end < 0 || !text.endsWith('\n') || sha256(body) !== expected) throw new Error('the checksum does not match');
  return JSON.parse(body);
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
