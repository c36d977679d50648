import type { Log } from '../../../shared/log.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { podOfNetns } from '../../../shared/routing/registry-entry.js';
import type { CapturedNetns } from '../../capture/firewall/captured-netns.js';
import type { Scheduler } from '../../thread/scheduler.js';
import type { CaptureLedger } from './capture-ledger.js';
import { newlyHeld, type Held } from './held-workload.js';
import { findNamespace } from './network-namespace.js';
import type { CaptureControl } from './workload-controls.js';
import type { Holders, NamespaceFound } from './workload-namespaces.js';

/**
 * The workloads whose namespaces were found, and the namespaces in the ledger. A namespace that one workload leaves and
 * another one names keeps its rules: the other one takes them over, and nothing passes meanwhile.
 */
export class HeldWorkloads {
  readonly #capture: CaptureControl;
  readonly #ledger: CaptureLedger;
  readonly #scheduler: Scheduler;
  readonly #log: Log;
  readonly #ownInode: number;
  #ownCgroup: number | null;
  readonly #onDropped: (name: WorkloadName) => void;
  readonly #held = new Map<WorkloadName, Held>();

  constructor(init: {
    readonly capture: CaptureControl;
    readonly ledger: CaptureLedger;
    readonly scheduler: Scheduler;
    readonly log: Log;
    /** Inode of the agent's own namespace. */
    readonly ownInode: number;
    /** Inode of the cgroup in which the agent's sockets are made; null: none of its own. */
    readonly ownCgroup: number | null;
    readonly onDropped: (name: WorkloadName) => void;
  }) {
    this.#capture = init.capture;
    this.#ledger = init.ledger;
    this.#scheduler = init.scheduler;
    this.#log = init.log;
    this.#ownInode = init.ownInode;
    this.#ownCgroup = init.ownCgroup;
    this.#onDropped = init.onDropped;
    this.#capture.expect(this.#ledger.entries);
  }

  get all(): readonly Held[] {
    return [...this.#held.values()];
  }

  get holders(): Holders {
    return {
      hasCaptured: (name, inode) => this.#holds(name, inode) && this.#held.get(name)?.applied !== null,
      isInLedger: (name, inode) => this.#ledger.has(name, inode),
      isHeld: (name, inode) => this.#holds(name, inode),
    };
  }

  get(name: WorkloadName): Held | undefined {
    return this.#held.get(name);
  }

  /** Holds those whose namespaces were found, and releases all others. */
  async follow(
    found: ReadonlyMap<WorkloadName, NamespaceFound>,
    isWanted: (name: WorkloadName) => boolean,
  ): Promise<void> {
    const passedOn = await this.#releaseGone(found, isWanted);
    const left = await this.#leftCaptured(found, passedOn);
    for (const [name, namespace] of found) {
      if (this.#held.has(name)) continue;
      const { path: netnsPath, inode: netnsInode } = namespace;
      const before = passedOn.get(netnsInode);
      const wasCaptured = before?.mayHaveRules ?? left.has(name);
      const exemptsOther = before?.exemptsOther ?? (wasCaptured && this.#exemptsOther(netnsInode));
      const takesOver = before === undefined ? null : (before.takesOver ?? before.name);
      const sinceMs = this.#scheduler.elapsedMs();
      const facts = { name, netnsPath, netnsInode, sinceMs, wasCaptured, exemptsOther, takesOver };
      this.#held.set(name, newlyHeld(facts));
    }
  }

  /** When the agent was moved to another cgroup, its rules are loaded for that one, and the ledger says so. */
  async followCgroup(): Promise<void> {
    const ownCgroup = await this.#capture.followCgroup();
    if (ownCgroup === undefined) return;
    this.#ownCgroup = ownCgroup;
    for (const { netnsInode, applied } of this.all) {
      const entry = this.#ledger.entries.find((each) => each.netnsInode === netnsInode);
      if (applied === null || entry === undefined) continue;
      const { ownCgroup: _before, ...rest } = entry;
      await this.#ledger.add(ownCgroup === null ? rest : { ...rest, ownCgroup });
    }
  }

  /** Before the first rule is loaded. From here on the namespace is no other workload's. */
  async remember(held: Held, { name, netnsPath, addresses }: CapturedNetns): Promise<void> {
    const { netnsInode } = held;
    held.mayHaveRules = true;
    const ownCgroup = this.#ownCgroup === null ? {} : { ownCgroup: this.#ownCgroup };
    await this.#ledger.add({ workload: name, netnsPath, netnsInode, addresses, ...ownCgroup });
    for (const entry of this.#ledger.entries) {
      if (entry.netnsInode !== netnsInode || entry.workload === name) continue;
      await this.#capture.letGo(entry.workload, netnsInode);
      await this.#ledger.remove(entry);
    }
  }

  /**
   * Removes rules from the namespaces in the ledger that no workload has any more: left by an earlier run, or drained by
   * now.
   */
  async removeLeftovers(isOver: () => boolean): Promise<void> {
    const inodes = new Set(this.all.map(({ netnsInode }) => netnsInode));
    for (const entry of this.#ledger.entries) {
      if (isOver()) return;
      const { workload, netnsPath, netnsInode } = entry;
      if (inodes.has(netnsInode) || this.#capture.isHolding(workload, netnsInode)) continue;
      try {
        if (leadsTo(netnsPath, netnsInode) && netnsInode !== this.#ownInode) await this.#capture.removeLeftover(entry);
        await this.#ledger.remove(entry);
      } catch (error) {
        this.#log.error({ workload, netns: netnsPath, err: error }, 'capture could not be removed; retrying');
      }
    }
  }

  /**
   * A pod whose sandbox is not known is where it was captured, also by an earlier run, for as long as that namespace is there:
   * what the agent cannot find out takes no workload out of the mesh.
   */
  located<T extends { readonly netns: string | null }>(
    wanted: ReadonlyMap<WorkloadName, T>,
  ): ReadonlyMap<WorkloadName, T> {
    const lost = [...wanted].filter(([, { netns }]) => podOfNetns(netns ?? '') !== null);
    if (lost.length === 0) return wanted;
    const all = new Map(wanted);
    for (const [name, entry] of lost) {
      const places = [this.get(name), ...this.#ledger.entries.filter(({ workload }) => workload === name)];
      const place = places.find((each) => each !== undefined && leadsTo(each.netnsPath, each.netnsInode));
      if (place !== undefined) all.set(name, { ...entry, netns: place.netnsPath });
    }
    return all;
  }

  async releaseAll(): Promise<void> {
    for (const held of this.all) await this.#release(held, 'the agent is stopping');
    await this.removeLeftovers(() => false);
  }

  #holds(name: WorkloadName, inode: number): boolean {
    return this.#held.get(name)?.netnsInode === inode;
  }

  /**
   * Whether an earlier run captured it, perhaps for another workload. Where this run let go of it, only what its open
   * connections need is still there.
   */
  #isLeftCaptured(name: WorkloadName, inode: number): boolean {
    return this.#ledger.entries.some(
      ({ workload, netnsPath, netnsInode }) =>
        netnsInode === inode &&
        (workload === name || leadsTo(netnsPath, inode)) &&
        !this.#capture.isHolding(workload, inode),
    );
  }

  /**
   * Those of which the ledger says that an earlier run captured them, and whose namespaces have the rules. The ledger alone is
   * not believed: rules can be flushed while no agent runs, and the inode of a namespace that went is used again.
   */
  async #leftCaptured(
    found: ReadonlyMap<WorkloadName, NamespaceFound>,
    passedOn: ReadonlyMap<number, Held>,
  ): Promise<ReadonlySet<WorkloadName>> {
    const left = new Set<WorkloadName>();
    const looks = [...found].map(async ([name, { path, inode }]) => {
      if (this.#held.has(name) || passedOn.has(inode) || !this.#isLeftCaptured(name, inode)) return;
      if (await this.#capture.isRuled(path, inode)) left.add(name);
      else
        this.#log.warn({ workload: name, netns: path }, 'the rules of an earlier run are gone: closing the namespace');
    });
    await Promise.all(looks);
    return left;
  }

  #exemptsOther(inode: number): boolean {
    return this.#ledger.entries.some(
      ({ netnsInode, ownCgroup }) => netnsInode === inode && ownCgroup !== undefined && ownCgroup !== this.#ownCgroup,
    );
  }

  /** Returns those that were not released because another workload names their namespace, by its inode. */
  async #releaseGone(
    found: ReadonlyMap<WorkloadName, NamespaceFound>,
    isWanted: (name: WorkloadName) => boolean,
  ): Promise<ReadonlyMap<number, Held>> {
    const named = new Set([...found.values()].map(({ inode }) => inode));
    const passedOn = new Map<number, Held>();
    for (const held of this.all) {
      const namespace = found.get(held.name);
      if (namespace?.inode === held.netnsInode && namespace.path === held.netnsPath) continue;
      if (named.has(held.netnsInode)) {
        passedOn.set(held.netnsInode, held);
        this.#drop(held, 'its namespace is now named by another workload, or by another path');
      } else if (!isWanted(held.name)) await this.#release(held, 'it is no longer registered here');
      else
        await this.#release(
          held,
          namespace === undefined ? 'its namespace no longer exists' : 'its namespace was replaced',
        );
    }
    return passedOn;
  }

  async #release(held: Held, why: string): Promise<void> {
    const { name, netnsInode, takesOver } = held;
    const hasAnother = takesOver !== null && takesOver !== name && this.#capture.isHolding(takesOver, netnsInode);
    for (const each of hasAnother ? [name, takesOver] : [name]) {
      try {
        await this.#capture.release(each);
      } catch (error) {
        this.#log.error({ workload: each, netns: held.netnsPath, err: error }, 'capture could not be removed');
      }
    }
    // Its inode may be used again at once, by a namespace that has no rules.
    if (!leadsTo(held.netnsPath, netnsInode)) void this.#ledger.remove({ workload: held.name, netnsInode });
    this.#drop(held, why);
  }

  #drop(held: Held, why: string): void {
    this.#held.delete(held.name);
    this.#onDropped(held.name);
    this.#log.info({ workload: held.name, netns: held.netnsPath, why }, 'workload released');
  }
}

function leadsTo(netnsPath: string, inode: number): boolean {
  const namespace = findNamespace(netnsPath);
  return namespace.kind === 'found' && namespace.inode === inode;
}
