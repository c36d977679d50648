import { type Dirent, type FSWatcher, watch } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { readNamedFile } from '../../../shared/named-file.js';
import { hasHelper, runThroughHelper } from '../../native/helper.js';
import { netnsInode } from '../../native/netns.js';
import { systemScheduler, type Scheduler } from '../../thread/scheduler.js';
import { readCniResult } from './cni-result.js';

/** Where libcni, and with it containerd and CRI-O, keeps the result of each sandbox. Only root reads it. */
const resultsDirectory = '/var/lib/cni/results';
const namespacesDirectory = '/run/netns';
const maxFiles = 4096;
const maxFileBytes = 256 * 1024;
/** The result of a sandbox is written some time after its namespace is made: when all plugins are done. */
const looksAfterMs = [0, 20, 40, 80, 160, 320, 640, 1000];
/** From then on, while the sandbox of a wanted pod is missing. */
const slowLookMs = 2000;

/**
 * Finds the network namespace of each pod by its UID. The runtime's own record is asked, which no pod can write; addresses,
 * names of namespaces and processes prove nothing. A new namespace under /run/netns makes it look.
 */
export class PodSandboxes {
  readonly #log: Log;
  readonly #scheduler: Scheduler;
  readonly #onChange: () => void;
  readonly #read: () => Promise<readonly string[]>;
  #wanted: ReadonlySet<string> = new Set();
  #paths: ReadonlyMap<string, string> = new Map();
  #watcher: FSWatcher | null = null;
  #cancel: (() => void) | null = null;
  #looks = 0;
  #isLooking = false;
  #problem: string | null = null;
  #isClosed = false;

  /** `read`: for tests; the files of the cache, as JSON texts. */
  constructor(init: {
    readonly log: Log;
    /** For tests. */
    readonly scheduler?: Scheduler;
    /** The namespace of a wanted pod was found, or is another one. */
    readonly onChange: () => void;
    readonly read?: () => Promise<readonly string[]>;
  }) {
    this.#log = init.log;
    this.#scheduler = init.scheduler ?? systemScheduler;
    this.#onChange = init.onChange;
    this.#read = init.read ?? readResults;
  }

  /** The complete list of pods, by UID. */
  follow(uids: ReadonlySet<string>): void {
    const hasNew = [...uids].some((uid) => !this.#wanted.has(uid));
    this.#wanted = uids;
    if (uids.size > 0) this.#watch();
    if (hasNew) this.lookNow();
  }

  /** The container runtime makes this sandbox now, and says so before its cache does. A pod that is not wanted is left out. */
  place(uid: string, netnsPath: string): void {
    if (!this.#wanted.has(uid) || this.#isClosed || this.#paths.get(uid) === netnsPath) return;
    this.#paths = new Map(this.#paths).set(uid, netnsPath);
    this.#onChange();
  }

  /** The absolute path of its network namespace; null: it is not known, or no longer there. */
  pathOf(uid: string): string | null {
    return this.#paths.get(uid) ?? null;
  }

  /** Why no sandbox can be found; null: they can. */
  get problem(): string | null {
    return this.#problem;
  }

  /**
   * Reads what is there before anything is followed, so that an agent which starts again knows the sandboxes of its pods when it
   * knows the pods. Never rejects.
   */
  async readFirst(): Promise<void> {
    await this.#readAll();
  }

  /** Looks at once, then again for a while: a sandbox may be being made. */
  lookNow(): void {
    this.#looks = 0;
    this.#schedule();
  }

  close(): void {
    this.#isClosed = true;
    this.#watcher?.close();
    this.#cancel?.();
  }

  #schedule(): void {
    if (this.#isClosed || this.#isLooking) return;
    this.#cancel?.();
    const waitMs = looksAfterMs[this.#looks] ?? slowLookMs;
    this.#looks++;
    this.#cancel = this.#scheduler.after(waitMs, () => void this.#look());
  }

  async #look(): Promise<void> {
    if (this.#missing.length === 0) return;
    this.#isLooking = true;
    const before = this.#paths;
    await this.#readAll();
    const hasChanged = [...this.#wanted].some((uid) => this.#paths.get(uid) !== before.get(uid));
    if (hasChanged && !this.#isClosed) this.#onChange();
    this.#isLooking = false;
    if (this.#missing.length > 0) this.#schedule();
  }

  async #readAll(): Promise<void> {
    try {
      const results = await this.#read();
      const found = new Map<string, string>();
      for (const json of results) {
        const sandbox = readCniResult(json);
        // Of two sandboxes of a pod, the one before has no namespace any more.
        if (sandbox !== null && isNamespace(sandbox.netnsPath)) found.set(sandbox.uid, sandbox.netnsPath);
      }
      // A file that cannot be read now, or is not there yet, takes no captured pod out of the mesh.
      for (const [uid, known] of this.#paths) if (!found.has(uid) && isNamespace(known)) found.set(uid, known);
      this.#problem = null;
      this.#paths = found;
    } catch (error) {
      const problem = `the sandboxes of pods cannot be read in ${resultsDirectory}: ${describeError(error)}`;
      if (problem !== this.#problem) this.#log.warn({ err: error }, 'the sandboxes of pods cannot be read');
      this.#problem = problem;
    }
  }

  get #missing(): string[] {
    return [...this.#wanted].filter((uid) => !isNamespace(this.#paths.get(uid)));
  }

  #watch(): void {
    if (this.#watcher !== null || this.#isClosed) return;
    try {
      this.#watcher = watch(namespacesDirectory, { persistent: false }, () => this.lookNow());
      this.#watcher.on('error', () => this.#unwatch());
    } catch {
      // Pods without a sandbox are looked for from time to time, and the next list tries to watch again.
      this.#unwatch();
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = null;
  }
}

function isNamespace(netnsPath: string | undefined): boolean {
  try {
    return netnsPath !== undefined && netnsInode(netnsPath) !== undefined;
  } catch {
    return false;
  }
}

async function readResults(): Promise<readonly string[]> {
  return hasHelper() ? readThroughHelper() : readDirectory();
}

async function readThroughHelper(): Promise<readonly string[]> {
  const { code, stdout, stderr } = await runThroughHelper({ netnsFd: null, argv: ['pod-sandboxes'], input: '' });
  if (code !== 0) throw new Error(stderr === '' ? `the privileged helper ended with ${code}` : stderr);
  return stdout.split('\n').filter((line) => line !== '');
}

async function readDirectory(): Promise<readonly string[]> {
  const results: string[] = [];
  for (const { name } of (await entriesOf(resultsDirectory)).filter((entry) => entry.isFile()).slice(0, maxFiles)) {
    const file = await readNamedFile(path.join(resultsDirectory, name), { maxBytes: maxFileBytes });
    if (file.isRead) results.push(file.bytes.toString('utf8'));
  }
  return results;
}

async function entriesOf(directory: string): Promise<Dirent[]> {
  try {
    return await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
