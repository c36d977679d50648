import { closeSync, fstatSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { ownNetnsInode } from '../../native/netns.js';
import { duplicate, listenerOf, notifyManager } from '../../native/passed-sockets.js';
import type { Copied, CopyingInit } from './copying-thread.js';

/** The first descriptor that systemd passes, sd_listen_fds(3). */
const firstListenFd = 3;
/** As many as one datagram takes. */
const storedAtOnce = 64;
/** Before the next attempt, when the agent did not give its sockets. */
const retryMs = 1000;

/**
 * Copies of the agent's listening sockets in the supervisor: while it has them, connections wait for the next agent and
 * are not refused. Under systemd they are also in the service's descriptor store, so they outlive the supervisor too
 * (FileDescriptorStoreMax=, `FDSTORE=1` in sd_notify(3)).
 */
export class KeptSockets {
  readonly #stateDir: string;
  readonly #log: Log;
  /** Address of the service manager; null: there is none that keeps descriptors. */
  readonly #manager: string | null;
  #fds: readonly number[];
  /** What the service manager has, by name: the inodes of the sockets. */
  readonly #stored = new Map<string, string>();
  /** Not null while a thread asks the agent. */
  #copying: Promise<void> | null = null;
  #isOutdated = false;
  #retry: NodeJS.Timeout | null = null;
  /** Counts the calls of {@link close}: what was asked for before one is not kept. */
  #closings = 0;

  /** Takes what systemd passes, and removes its variables from `env`, because they are not meant for the agent. */
  constructor(init: { readonly stateDir: string; readonly log: Log; readonly env: NodeJS.ProcessEnv }) {
    this.#stateDir = init.stateDir;
    this.#log = init.log;
    const { NOTIFY_SOCKET: manager = '' } = init.env;
    this.#manager = manager === '' ? null : manager;
    const given = takeInheritedSockets({ first: firstListenFd, count: countOfListenFds(init.env) });
    for (const [name, fds] of byNamespace(given)) this.#stored.set(name, contentOf(fds));
    this.#fds = withoutEndpoints(given);
    if (this.#fds.length < given.length) this.#store();
    for (const name of ['NOTIFY_SOCKET', 'LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete init.env[name];
  }

  /** For the next agent. They stay this object's: the child process gets copies. */
  get fds(): readonly number[] {
    return this.#fds;
  }

  /** Whether a service manager keeps them across a restart of the supervisor. */
  get hasManager(): boolean {
    return this.#manager !== null;
  }

  /**
   * Fetches the sockets that the running agent has now, in the background, and again until it answers. When no agent runs,
   * what is here is kept. Never throws, because copies only make a crash cheaper.
   */
  refresh(): void {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
    this.#isOutdated = true;
    this.#copying ??= this.#copy().finally(() => (this.#copying = null));
  }

  /** Resolves when no attempt of {@link refresh} is under way. */
  async settled(): Promise<void> {
    await this.#copying;
  }

  /** Connections are no longer kept waiting: those to a port that no other process has are refused. */
  close(): void {
    this.#closings++;
    this.#isOutdated = false;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
    this.#replace([]);
  }

  /** As {@link close}, and takes them from the service manager too. */
  drop(): void {
    this.close();
    this.#store();
  }

  async #copy(): Promise<void> {
    while (this.#isOutdated) {
      this.#isOutdated = false;
      const closings = this.#closings;
      const copied = await copyInThread({ stateDir: this.#stateDir });
      if (closings !== this.#closings) {
        if (copied.kind === 'copied') copied.fds?.forEach((fd) => closeSync(fd));
      } else if (copied.kind === 'failed') {
        this.#log.warn({ problem: copied.problem }, 'the sockets of the agent could not be copied; retrying');
        this.#retry ??= setTimeout(() => this.refresh(), retryMs).unref();
      } else if (copied.fds !== null) {
        this.#replace(copied.fds);
        this.#store();
      }
    }
  }

  #replace(fds: readonly number[]): void {
    for (const fd of this.#fds) closeSync(fd);
    this.#fds = fds;
  }

  #store(): void {
    if (this.#manager === null) return;
    const wanted = byNamespace(this.#fds);
    for (const name of this.#stored.keys()) if (!wanted.has(name)) this.#forget(name);
    for (const [name, fds] of wanted) {
      const content = contentOf(fds);
      if (this.#stored.get(name) === content) continue;
      if (this.#stored.has(name)) this.#forget(name);
      for (let at = 0; at < fds.length; at += storedAtOnce) {
        this.#notify(`FDSTORE=1\nFDNAME=${name}`, fds.slice(at, at + storedAtOnce));
      }
      this.#stored.set(name, content);
    }
  }

  #forget(name: string): void {
    this.#notify(`FDSTOREREMOVE=1\nFDNAME=${name}`, []);
    this.#stored.delete(name);
  }

  #notify(text: string, fds: readonly number[]): void {
    try {
      notifyManager({ path: this.#manager ?? '', text, fds });
    } catch (error) {
      this.#log.warn({ problem: describeError(error) }, 'the service manager could not be given the sockets to keep');
    }
  }
}

/** Never rejects. */
async function copyInThread(init: CopyingInit): Promise<Copied> {
  return await new Promise((resolve) => {
    const thread = new Worker(new URL('./copying-thread.js', import.meta.url), { workerData: init });
    thread.once('message', resolve);
    thread.once('error', (error) => resolve({ kind: 'failed', problem: describeError(error) }));
    thread.once('exit', () => resolve({ kind: 'failed', problem: 'the thread that asked for them ended' }));
  });
}

/**
 * Takes descriptors that this process was started with: `count` of them from `first` on. They are closed on exec from
 * now on, so that no program that the agent starts keeps them open.
 */
export function takeInheritedSockets(o: { readonly first: number; readonly count: number }): readonly number[] {
  return Array.from({ length: o.count }, (_, index) => {
    const fd = duplicate(o.first + index);
    closeSync(o.first + index);
    return fd;
  });
}

function countOfListenFds(env: NodeJS.ProcessEnv): number {
  if (Number(env['LISTEN_PID']) !== process.pid) return 0;
  const count = Number(env['LISTEN_FDS']);
  return Number.isSafeInteger(count) && count > 0 ? count : 0;
}

/** Those of the host's own namespace, which versions before kept too, are closed: the next agent may have other addresses. */
function withoutEndpoints(fds: readonly number[]): readonly number[] {
  const own = ownNetnsInode();
  return fds.filter((fd) => {
    const isEndpoint = listenerOf(fd)?.netnsInode === own;
    if (isEndpoint) closeSync(fd);
    return !isEndpoint;
  });
}

/** A workload that leaves takes its sockets out of the store by the name of its namespace. */
function byNamespace(fds: readonly number[]): ReadonlyMap<string, readonly number[]> {
  const found = new Map<string, number[]>();
  for (const fd of fds) {
    const listener = listenerOf(fd);
    if (listener === null) continue;
    const name = `culvert-netns-${listener.netnsInode}`;
    found.set(name, [...(found.get(name) ?? []), fd]);
  }
  return found;
}

function contentOf(fds: readonly number[]): string {
  return fds
    .map((fd) => fstatSync(fd).ino)
    .toSorted((a, b) => a - b)
    .join();
}
