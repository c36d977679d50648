import { CulvertError } from '../../../shared/errors.js';
import { readProcFile } from '../../native/addon.js';
import type { FoundHolder, HolderSearches } from './holder-search.js';

type Netns = { readonly fd: number; readonly inode: number };

/** Names the programs that have ports of the agent. */
export class PortHolders {
  readonly #searches: HolderSearches;

  constructor(searches: HolderSearches) {
    this.#searches = searches;
  }

  /**
   * Runs `listen`; when another socket has the port, the error names its user, and its process where a search has found it by
   * then.
   */
  named<T>(netns: Netns, port: number, listen: () => T): T {
    try {
      return listen();
    } catch (error) {
      if (!(error instanceof CulvertError) || error.code !== 'EADDRINUSE') throw error;
      const { code, message, hint } = error;
      const named = `${message}: ${this.#holderOf(netns, port)} has it`;
      throw new CulvertError({ code, message: named, ...(hint === undefined ? {} : { hint }), cause: error });
    }
  }

  #holderOf(netns: Netns, port: number): string {
    const [listener] = ['tcp', 'tcp6'].flatMap((table) => listenersOn(port, tableOf(netns, table)));
    if (listener === undefined) return 'a socket that is bound to it and does not listen';
    const { uid, socketInode } = listener;
    return describeHolder(uid, this.#searches.holderOf({ netnsInode: netns.inode, socketInode }));
  }
}

/** `found` undefined: no search has ended. */
function describeHolder(uid: number, found: FoundHolder | undefined): string {
  if (found?.process != null) return `${found.process} of uid ${uid}`;
  const program = `a program of uid ${uid}`;
  return found?.isCut === true ? `${program} (too many processes or descriptors to find which)` : program;
}

type Listener = { readonly uid: number; readonly socketInode: string };

/** `table` as in Documentation/networking/proc_net_tcp.rst: state 0A is listening, and such sockets come first. */
export function listenersOn(port: number, table: string): readonly Listener[] {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const line = new RegExp(String.raw`^ *\d+: [0-9A-F]+:${hex} [0-9A-F]+:0000 0A \S+ \S+ \S+ +(\d+) +\d+ (\d+) `, 'gm');
  return [...table.matchAll(line)].map(([, uid, socketInode = '']) => ({ uid: Number(uid), socketInode }));
}

function tableOf({ fd }: Netns, table: string): string {
  try {
    return readProcFile({ netnsFd: fd, path: `/proc/thread-self/net/${table}` });
  } catch {
    return '';
  }
}
