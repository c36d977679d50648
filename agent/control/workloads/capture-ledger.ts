import type { IpAddress } from '../../../shared/address.js';
import type { Log } from '../../../shared/log.js';
import type { ChecksummedFile } from '../state/checksummed-file.js';
import type { CapturedNamespaces } from '../state/last-good-state.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { thisBoot } from '../../thread/process-mark.js';

export type LedgerEntry = {
  readonly workload: WorkloadName;
  readonly netnsPath: string;
  readonly netnsInode: number;
  readonly addresses: readonly IpAddress[];
  /** The boot of the machine in which the namespace was there; absent: not known. */
  readonly boot?: string;
  /** Inode of the cgroup whose sockets the rules exempt; absent: none. */
  readonly ownCgroup?: number;
};

/**
 * Lists the namespaces that may contain capture rules. A namespace is on disk from before its first rule is loaded
 * until its last is removed, so that `culvert-agent remove` and a restarted agent find every one, whatever happened in
 * between.
 */
export class CaptureLedger {
  readonly #file: ChecksummedFile<CapturedNamespaces>;
  readonly #log: Log;
  readonly #entries = new Map<string, LedgerEntry>();
  readonly #boot = thisBoot();

  constructor(init: {
    readonly file: ChecksummedFile<CapturedNamespaces>;
    readonly entries: readonly LedgerEntry[];
    readonly log: Log;
  }) {
    this.#file = init.file;
    this.#log = init.log;
    for (const entry of init.entries) {
      if ((entry.boot ?? this.#boot) === this.#boot) this.#entries.set(key(entry), entry);
    }
  }

  get entries(): readonly LedgerEntry[] {
    return [...this.#entries.values()];
  }

  has(workload: WorkloadName, netnsInode: number): boolean {
    return this.#entries.has(key({ workload, netnsInode }));
  }

  async add(entry: LedgerEntry): Promise<void> {
    this.#entries.set(key(entry), { ...entry, boot: this.#boot });
    await this.#save();
  }

  async remove(entry: Pick<LedgerEntry, 'workload' | 'netnsInode'>): Promise<void> {
    if (this.#entries.delete(key(entry))) await this.#save();
  }

  /** A full disk must not stop the capture: protection now is worth more than cleanup later. */
  async #save(): Promise<void> {
    try {
      await this.#file.write({
        namespaces: this.entries.map((entry) => ({ ...entry, addresses: [...entry.addresses] })),
      });
    } catch (error) {
      this.#log.error({ err: error }, 'the list of captured namespaces could not be written to disk');
    }
  }
}

function key(entry: Pick<LedgerEntry, 'workload' | 'netnsInode'>): string {
  return `${entry.workload}@${entry.netnsInode}`;
}
