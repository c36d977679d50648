import type { IpAddress } from '../../../shared/address.js';
import {
  registryKey,
  type RegistryEntry,
  type ServiceEntry,
  type WorkloadEntry,
} from '../../../shared/wire/registry.js';
import type { RegistryMessage } from '../messages.js';
import { Claims } from './claims.js';

/**
 * The registry as a worker looks things up in it: by address, by VIP, by name, and the endpoints of a service. Changed
 * in place by the control thread's messages; entries themselves are immutable, so whoever keeps one sees a stable fact.
 */
export class RegistryIndex {
  readonly #entries = new Map<string, RegistryEntry>();
  readonly #byAddress = new Claims<WorkloadEntry>();
  readonly #byVip = new Claims<ServiceEntry>();
  readonly #byNamespace = new Map<string, Map<string, WorkloadEntry>>();
  /** By service key; dropped when a workload of the namespace changes. */
  readonly #endpoints = new Map<string, readonly WorkloadEntry[]>();
  #isFilled = false;

  /** False until a first message came: an agent that knows nobody must not take everybody for external. */
  get isFilled(): boolean {
    return this.#isFilled;
  }

  get size(): number {
    return this.#entries.size;
  }

  apply(message: Pick<RegistryMessage, 'isFull' | 'upserts' | 'removals'>): void {
    if (message.isFull) this.#clear();
    for (const key of message.removals) this.#remove(key);
    for (const entry of message.upserts) this.#upsert(entry);
    this.#isFilled = true;
  }

  workloadAt(ip: IpAddress): WorkloadEntry | undefined {
    return this.#byAddress.get(ip);
  }

  /** By `namespace/name`. */
  workload(name: string): WorkloadEntry | undefined {
    const entry = this.#entries.get(`workload.${name.replace('/', '.')}`);
    return entry?.kind === 'workload' ? entry : undefined;
  }

  serviceAt(ip: IpAddress): ServiceEntry | undefined {
    return this.#byVip.get(ip);
  }

  /**
   * The workloads of the service's namespace that carry all labels of its selector, in a stable order. A service
   * without a selector has no endpoints, as in Kubernetes.
   */
  endpointsOf(service: ServiceEntry): readonly WorkloadEntry[] {
    const key = registryKey(service);
    const known = this.#endpoints.get(key);
    if (known !== undefined) return known;
    const selector = Object.entries(service.selector);
    const found =
      selector.length === 0
        ? []
        : [...(this.#byNamespace.get(service.namespace)?.values() ?? [])]
            .filter((workload) => selector.every(([label, value]) => workload.labels[label] === value))
            .toSorted((a, b) => (a.name < b.name ? -1 : 1));
    this.#endpoints.set(key, found);
    return found;
  }

  #upsert(entry: RegistryEntry): void {
    const key = registryKey(entry);
    this.#remove(key);
    this.#entries.set(key, entry);
    if (entry.kind === 'service') {
      for (const vip of entry.vips) this.#byVip.add(vip, entry);
      return;
    }
    for (const address of entry.addresses) this.#byAddress.add(address, entry);
    const siblings = this.#byNamespace.get(entry.namespace);
    if (siblings === undefined) this.#byNamespace.set(entry.namespace, new Map([[key, entry]]));
    else siblings.set(key, entry);
    this.#forgetEndpointsIn(entry.namespace);
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    if (entry.kind === 'service') {
      for (const vip of entry.vips) this.#byVip.remove(vip, entry);
      this.#endpoints.delete(key);
      return;
    }
    for (const address of entry.addresses) this.#byAddress.remove(address, entry);
    const siblings = this.#byNamespace.get(entry.namespace);
    siblings?.delete(key);
    if (siblings?.size === 0) this.#byNamespace.delete(entry.namespace);
    this.#forgetEndpointsIn(entry.namespace);
  }

  #forgetEndpointsIn(namespace: string): void {
    const prefix = `service.${namespace}.`;
    for (const key of this.#endpoints.keys()) if (key.startsWith(prefix)) this.#endpoints.delete(key);
  }

  #clear(): void {
    this.#entries.clear();
    this.#byAddress.clear();
    this.#byVip.clear();
    this.#byNamespace.clear();
    this.#endpoints.clear();
  }
}

/** `namespace/name`. */
export function workloadName(workload: WorkloadEntry): string {
  return `${workload.namespace}/${workload.name}`;
}
