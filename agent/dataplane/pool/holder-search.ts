import { type Dir, opendirSync, readFileSync, readlinkSync } from 'node:fs';
import { hasHelper, runThroughHelper } from '../../native/helper.js';

/** A socket of a program, and the inode of the network namespace that it is in. */
export type HeldSocket = { readonly netnsInode: number; readonly socketInode: string };

export type FoundHolder = {
  /** Null: no process was found. */
  readonly process: string | null;
  /** Not everything was looked at, because there is too much of it. */
  readonly isCut: boolean;
};

/** Programs of a workload choose how many processes and descriptors they have, and this thread has other work. */
export type SearchLimits = {
  /** Processes and descriptors that one search looks at, taken together. */
  readonly steps: number;
  readonly descriptorsOfOne: number;
};
const defaultLimits: SearchLimits = { steps: 16_384, descriptorsOfOne: 1024 };

/** Steps in one turn of the event loop, each of a few microseconds. The next turn comes after the pause. */
const stepsInTurn = 64;
const pauseMs = 5;
const maxAgeMs = 60_000;

/**
 * Looks for processes that have sockets open: in slices, one after another, and for each socket at most once a minute. A caller
 * gets what is known by then.
 */
export class HolderSearches {
  readonly #answers = new Map<string, { readonly found: FoundHolder; readonly atMs: number }>();
  /** By the inode of the socket, in the order of their searches. */
  readonly #wanted = new Map<string, HeldSocket>();
  readonly #search: (socket: HeldSocket) => Generator<undefined, FoundHolder>;
  readonly #nowMs: () => number;

  constructor(
    init: {
      readonly search?: (socket: HeldSocket) => Generator<undefined, FoundHolder>;
      readonly nowMs?: () => number;
    } = {},
  ) {
    this.#search = init.search ?? ((socket) => findHolder(socket));
    this.#nowMs = init.nowMs ?? (() => performance.now());
  }

  /** What the last search found; undefined: none has ended. Begins one where that is due. */
  holderOf(socket: HeldSocket): FoundHolder | undefined {
    const { socketInode } = socket;
    const answer = this.#answers.get(socketInode);
    const isDue = answer === undefined || this.#nowMs() - answer.atMs >= maxAgeMs;
    if (isDue && !this.#wanted.has(socketInode)) {
      this.#wanted.set(socketInode, socket);
      if (this.#wanted.size === 1) this.#next();
    }
    return answer?.found;
  }

  #next(): void {
    const [socket] = this.#wanted.values();
    if (socket === undefined) return;
    if (hasHelper()) void askHelper(socket).then((found) => this.#settle(socket, found));
    else this.#continue(socket, this.#search(socket));
  }

  #continue(socket: HeldSocket, search: Generator<undefined, FoundHolder>): void {
    const turn = setTimeout(() => {
      for (let step = 0; step < stepsInTurn; step++) {
        const { done, value } = search.next();
        if (done !== true) continue;
        this.#settle(socket, value);
        return;
      }
      this.#continue(socket, search);
    }, pauseMs);
    turn.unref();
  }

  #settle({ socketInode }: HeldSocket, found: FoundHolder): void {
    const atMs = this.#nowMs();
    // A socket that is still in the way is asked about every few seconds, and was searched for again.
    for (const [inode, answer] of this.#answers) if (atMs - answer.atMs >= 2 * maxAgeMs) this.#answers.delete(inode);
    this.#answers.set(socketInode, { found, atMs });
    this.#wanted.delete(socketInode);
    this.#next();
  }
}

/** The descriptors of other users' processes are the privileged helper's to see. Never rejects. */
async function askHelper({ netnsInode, socketInode }: HeldSocket): Promise<FoundHolder> {
  try {
    const argv = ['find-holder', String(netnsInode), socketInode];
    const { stdout } = await runThroughHelper({ netnsFd: null, argv, input: '' });
    const [, pid, name] = /^(\d+) (.*)$/m.exec(stdout) ?? [];
    return { process: pid === undefined ? null : `pid ${pid} (${name})`, isCut: stdout === 'cut\n' };
  } catch {
    return { process: null, isCut: false };
  }
}

/** Looks at one process or descriptor in each step, and only at processes in the namespace. */
export function* findHolder(
  { netnsInode, socketInode }: HeldSocket,
  limits: SearchLimits = defaultLimits,
): Generator<undefined, FoundHolder> {
  let isCut = false;
  let steps = 0;
  for (const pid of namesIn('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    if (steps++ >= limits.steps) return { process: null, isCut: true };
    yield;
    if (linkOf(`/proc/${pid}/ns/net`) !== `net:[${netnsInode}]`) continue;
    let ofThis = 0;
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      if (steps++ >= limits.steps) return { process: null, isCut: true };
      isCut ||= ofThis >= limits.descriptorsOfOne;
      if (ofThis++ >= limits.descriptorsOfOne) break;
      yield;
      if (linkOf(`/proc/${pid}/fd/${fd}`) !== `socket:[${socketInode}]`) continue;
      return { process: `pid ${pid} (${nameOf(pid)})`, isCut: false };
    }
  }
  return { process: null, isCut };
}

/** As far as the caller reads, so that a large directory costs no more than that. Nothing where there is no such directory. */
function* namesIn(path: string): Generator<string> {
  let directory: Dir;
  try {
    directory = opendirSync(path);
  } catch {
    return;
  }
  try {
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) yield entry.name;
  } catch {
    // The process has ended.
  } finally {
    directory.closeSync();
  }
}

function nameOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return 'it has ended';
  }
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
