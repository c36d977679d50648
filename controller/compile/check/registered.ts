import { assertNever } from '../../../shared/assert-never.js';
import { namedPortsOf } from '../../resources/kinds/workload.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { NodeName } from '../../../shared/routing/names.js';
import type { ReferencedName } from '../../resources/match/peer-field.js';
import type { RegistryEntry, RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { selects } from '../../../shared/routing/registry-view.js';

/** What the checks of rules ask of a workload. */
export type RegisteredWorkload = Pick<
  WorkloadEntry,
  'namespace' | 'name' | 'serviceAccount' | 'labels' | 'node' | 'ports'
>;

/** What is registered, as the checks of rules ask for it. Names and accounts are `namespace/name`. */
export interface Registered {
  has(kind: ReferencedName, name: string): boolean;
  /** For the nearest name in a hint. */
  names(kind: ReferencedName): Iterable<string>;
  workloadsIn(namespace: string): Iterable<RegisteredWorkload>;
  workloads(): Iterable<RegisteredWorkload>;
}

/** {@link Registered} of entries that come and go; each costs the same, however many there are. */
export class RegisteredIndex implements Registered {
  readonly #workloads = new Map<string, RegisteredWorkload>();
  readonly #byNamespace = new Map<string, Map<string, RegisteredWorkload>>();
  /** How many workloads run as each. */
  readonly #accounts = new Map<string, number>();
  readonly #services = new Set<string>();
  /** Names without the namespace. */
  readonly #servicesOf = new Map<string, Set<string>>();

  /** The workloads and services among some documents. */
  static of(resources: readonly Resource[]): RegisteredIndex {
    const index = new RegisteredIndex();
    for (const resource of resources) {
      const { kind, metadata, spec } = resource;
      if (kind === 'Service') index.#addService(metadata);
      if (kind !== 'Workload') continue;
      const { namespace, name, labels = {} } = metadata;
      index.#add({
        namespace,
        name,
        labels,
        serviceAccount: spec.serviceAccount,
        node: (spec.node ?? null) as NodeName | null,
        ...namedPortsOf(spec),
      });
    }
    return index;
  }

  /** Replaces the entry of the same kind and name. */
  put(entry: RegistryEntry): void {
    this.delete(entry);
    if (entry.kind === 'service') this.#addService(entry);
    else this.#add(entry);
  }

  delete(entry: Pick<RegistryEntry, 'kind' | 'namespace' | 'name'>): void {
    const name = nameOf(entry);
    if (entry.kind === 'service') {
      this.#services.delete(name);
      const left = this.#servicesOf.get(entry.namespace);
      left?.delete(entry.name);
      if (left?.size === 0) this.#servicesOf.delete(entry.namespace);
      return;
    }
    const present = this.#workloads.get(name);
    if (present === undefined) return;
    this.#workloads.delete(name);
    const ofNamespace = this.#byNamespace.get(present.namespace);
    ofNamespace?.delete(name);
    if (ofNamespace?.size === 0) this.#byNamespace.delete(present.namespace);
    const account = accountOf(present);
    const left = (this.#accounts.get(account) ?? 1) - 1;
    if (left === 0) this.#accounts.delete(account);
    else this.#accounts.set(account, left);
  }

  get counts(): { readonly workloads: number; readonly services: number } {
    return { workloads: this.#workloads.size, services: this.#services.size };
  }

  has(kind: ReferencedName, name: string): boolean {
    switch (kind) {
      case 'workload':
        return this.#workloads.has(name);
      case 'service account':
        return this.#accounts.has(name);
      case 'service':
        return this.#services.has(name);
      default:
        return assertNever(kind);
    }
  }

  names(kind: ReferencedName): Iterable<string> {
    if (kind === 'service') return this.#services;
    return (kind === 'workload' ? this.#workloads : this.#accounts).keys();
  }

  workloadsIn(namespace: string): Iterable<RegisteredWorkload> {
    return this.#byNamespace.get(namespace)?.values() ?? [];
  }

  workloads(): Iterable<RegisteredWorkload> {
    return this.#workloads.values();
  }

  /** Names without the namespace. */
  servicesIn(namespace: string): Iterable<string> {
    return this.#servicesOf.get(namespace) ?? [];
  }

  #addService({ namespace, name }: { readonly namespace: string; readonly name: string }): void {
    this.#services.add(`${namespace}/${name}`);
    const ofNamespace = this.#servicesOf.get(namespace);
    if (ofNamespace === undefined) this.#servicesOf.set(namespace, new Set([name]));
    else ofNamespace.add(name);
  }

  #add(workload: RegisteredWorkload): void {
    const name = nameOf(workload);
    this.#workloads.set(name, workload);
    const ofNamespace = this.#byNamespace.get(workload.namespace);
    if (ofNamespace === undefined) this.#byNamespace.set(workload.namespace, new Map([[name, workload]]));
    else ofNamespace.set(name, workload);
    const account = accountOf(workload);
    this.#accounts.set(account, (this.#accounts.get(account) ?? 0) + 1);
  }
}

/** Whether the service selects a workload. */
export function hasEndpoint(registered: Registered, service: Pick<RegistryService, 'namespace' | 'selector'>): boolean {
  for (const workload of registered.workloadsIn(service.namespace)) if (selects(service, workload)) return true;
  return false;
}

export function carries({ labels }: RegisteredWorkload, selector: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([name, value]) => Object.hasOwn(labels, name) && labels[name] === value);
}

function nameOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

function accountOf({ namespace, serviceAccount }: RegisteredWorkload): string {
  return `${namespace}/${serviceAccount}`;
}
