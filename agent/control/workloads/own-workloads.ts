import type { SpiffeId } from '../../../shared/identity.js';
import type { NodeName, WorkloadName } from '../../../shared/routing/names.js';
import { workloadName } from '../../../shared/routing/names.js';
import {
  podOfNetns,
  registryKey,
  type RegistryEntry,
  type WorkloadEntry,
} from '../../../shared/routing/registry-entry.js';
import type { UnreadableWorkload } from '../../../shared/wire/unreadable-entry.js';
import { noExclusions } from '../../capture/namespace-capture.js';
import type { RegistryMessage } from '../../dataplane/messages.js';
import type { PodSandboxes } from './pod-sandboxes.js';

/** A workload of this node that must be captured. */
export type WantedWorkload = Pick<WorkloadEntry, 'netns' | 'addresses' | 'capture'> & {
  /** Null: its entry cannot be read. It is captured, and everything to and from it is refused. */
  readonly identity: SpiffeId | null;
  /** UID of the pod that it is; absent: it is no pod. */
  readonly pod?: string;
};

/** The workloads of this node, as the registry has them. */
export class OwnWorkloads {
  readonly #node: NodeName;
  readonly #sandboxes: Pick<PodSandboxes, 'follow' | 'pathOf'>;
  /** By registry key. */
  readonly #readable = new Map<string, WorkloadEntry>();
  #unreadable: readonly UnreadableWorkload[] = [];

  /** `sandboxes` is told which pods are wanted. */
  constructor(init: { readonly node: NodeName; readonly sandboxes: Pick<PodSandboxes, 'follow' | 'pathOf'> }) {
    this.#node = init.node;
    this.#sandboxes = init.sandboxes;
  }

  /** `unreadable`: all workloads of the mesh whose entries cannot be read. */
  useRegistry(
    { isFull, upserts, removals }: Pick<RegistryMessage, 'isFull' | 'upserts' | 'removals'>,
    unreadable: readonly UnreadableWorkload[],
  ): void {
    if (isFull) this.#readable.clear();
    for (const key of removals) this.#readable.delete(key);
    for (const entry of upserts) {
      const key = registryKey(entry);
      if (this.#isOwn(entry)) this.#readable.set(key, entry);
      else this.#readable.delete(key);
    }
    this.#unreadable = unreadable.filter(({ node }) => node === this.#node);
    this.#sandboxes.follow(this.#pods);
  }

  /** Those that must be captured. Of one that cannot be read any more, the version that could be stays in force. */
  get wanted(): ReadonlyMap<WorkloadName, WantedWorkload> {
    const wanted = new Map<WorkloadName, WantedWorkload>();
    for (const entry of this.#readable.values()) wanted.set(workloadName(entry), this.#located(entry));
    for (const { name, netns, addresses } of this.#unreadable) {
      if (wanted.has(name)) continue;
      wanted.set(name, this.#located({ identity: null, netns, addresses, capture: noExclusions }));
    }
    return wanted;
  }

  /** UIDs of the pods among them. */
  get #pods(): ReadonlySet<string> {
    const all = [...this.#readable.values(), ...this.#unreadable];
    return new Set(all.flatMap(({ netns }) => podOfNetns(netns ?? '') ?? []));
  }

  /** Of those that can be read. */
  get identities(): ReadonlySet<SpiffeId> {
    return new Set([...this.#readable.values()].map(({ identity }) => identity));
  }

  /** With the path of its sandbox, where it is a pod whose sandbox is known. */
  #located(workload: WantedWorkload): WantedWorkload {
    const uid = podOfNetns(workload.netns ?? '');
    const netns = uid === null ? null : this.#sandboxes.pathOf(uid);
    return uid === null ? workload : { ...workload, pod: uid, ...(netns === null ? {} : { netns }) };
  }

  #isOwn(entry: RegistryEntry): entry is WorkloadEntry {
    return entry.kind === 'workload' && entry.node === this.#node && entry.netns !== null && entry.protocol === 'hbone';
  }
}
