import { existsSync, type FSWatcher, watch } from 'node:fs';
import path from 'node:path';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { netnsInode } from '../../native/netns.js';

/**
 * A namespace is bound to its name right after the file for it is made (`ip netns add`, CNI plugins), and the kernel tells of
 * the file only. Less than a millisecond at first, and half a second in all.
 */
const looksAfterMs = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256];

/**
 * Tells when a namespace appears under one of some paths, goes from there, or is replaced: inotify on the directory of each
 * path, or on the closest parent while that is missing. A path through `/proc` cannot be watched: it is there when its process
 * is. Timers and watches do not keep the process alive.
 */
export class NamespaceWatch {
  readonly #log: Log;
  readonly #onChange: () => void;
  /** Inode of the namespace at each path; undefined: none. */
  readonly #paths = new Map<string, number | undefined>();
  readonly #watched = new Map<string, FSWatcher>();
  readonly #looks = new Map<string, NodeJS.Timeout>();
  /** By directory. */
  readonly #problems = new Map<string, string>();
  readonly #watchDirectory: typeof watch;
  #isClosed = false;

  /** `watchDirectory`: for tests. */
  constructor(init: { readonly log: Log; readonly onChange: () => void; readonly watchDirectory?: typeof watch }) {
    this.#log = init.log;
    this.#onChange = init.onChange;
    this.#watchDirectory = init.watchDirectory ?? watch;
  }

  /** Why namespaces may be found late; null: they are not. */
  get problem(): string | null {
    const [first] = this.#problems.values();
    return first ?? null;
  }

  /** Tries again what could not be watched. The owner calls it from time to time. */
  retry(): void {
    if (!this.#isClosed && this.#problems.size > 0) this.#rewatch();
  }

  /** The complete list of absolute paths. What is there now is not reported. */
  follow(paths: Iterable<string>): void {
    if (this.#isClosed) return;
    const wanted = new Set(paths);
    for (const known of this.#paths.keys()) if (!wanted.has(known)) this.#forget(known);
    for (const each of wanted) if (!this.#paths.has(each)) this.#paths.set(each, inodeAt(each));
    this.#rewatch();
  }

  close(): void {
    this.#isClosed = true;
    for (const known of this.#paths.keys()) this.#forget(known);
    for (const directory of this.#watched.keys()) this.#unwatch(directory);
  }

  #forget(known: string): void {
    this.#paths.delete(known);
    clearTimeout(this.#looks.get(known));
    this.#looks.delete(known);
  }

  #rewatch(): void {
    const directories = new Set([...this.#paths.keys()].flatMap((each) => directoryToWatch(each) ?? []));
    for (const directory of this.#watched.keys()) if (!directories.has(directory)) this.#unwatch(directory);
    for (const directory of this.#problems.keys()) if (!directories.has(directory)) this.#problems.delete(directory);
    for (const directory of directories) if (!this.#watched.has(directory)) this.#watch(directory);
  }

  #watch(directory: string): void {
    try {
      const watcher = this.#watchDirectory(directory, { persistent: false }, (_event, name) =>
        this.#onEvent(directory, name),
      );
      watcher.on('error', (error) => this.#fail(directory, error));
      this.#watched.set(directory, watcher);
      this.#problems.delete(directory);
    } catch (error) {
      this.#fail(directory, error);
    }
    // It may have been made between the last look and the watch.
    for (const each of this.#paths.keys()) if (isWithin(each, directory)) this.#look(each);
  }

  #unwatch(directory: string): void {
    this.#watched.get(directory)?.close();
    this.#watched.delete(directory);
  }

  #fail(directory: string, error: unknown): void {
    this.#unwatch(directory);
    const problem = `new namespaces pass everything for up to two seconds: ${directory} cannot be watched: ${describeError(error)}`;
    if (!this.#problems.has(directory))
      this.#log.warn({ directory, err: error }, 'namespaces are found late: no watch');
    this.#problems.set(directory, problem);
  }

  /** `name` is the entry of the directory that changed, or the directory's own when it is gone. */
  #onEvent(directory: string, name: string | null): void {
    const concerned = [...this.#paths.keys()].filter(
      (each) => isWithin(each, directory) && (name === null || path.relative(directory, each).split('/')[0] === name),
    );
    // It may be there again by now, as another one.
    const isGone = name === path.basename(directory);
    if (isGone) this.#unwatch(directory);
    if (isGone || concerned.some((each) => path.dirname(each) !== directory)) this.#rewatch();
    for (const each of concerned) this.#look(each);
  }

  #look(each: string, attempt = 0): void {
    clearTimeout(this.#looks.get(each));
    this.#looks.delete(each);
    const inode = inodeAt(each);
    if (inode !== this.#paths.get(each)) {
      this.#paths.set(each, inode);
      this.#onChange();
    }
    const waitMs = looksAfterMs[attempt];
    if (inode !== undefined || waitMs === undefined || !existsSync(each)) return;
    const timer = setTimeout(() => this.#look(each, attempt + 1), waitMs);
    timer.unref();
    this.#looks.set(each, timer);
  }
}

/** The closest directory that is there; null for what cannot be watched. */
function directoryToWatch(each: string): string | null {
  let directory = path.dirname(each);
  while (!existsSync(directory) && directory !== '/') directory = path.dirname(directory);
  return directory === '/proc' || directory.startsWith('/proc/') ? null : directory;
}

function isWithin(each: string, directory: string): boolean {
  return each.startsWith(directory === '/' ? '/' : `${directory}/`);
}

/** Undefined: there is no namespace, or not yet. */
function inodeAt(each: string): number | undefined {
  try {
    return netnsInode(each);
  } catch {
    return undefined;
  }
}
