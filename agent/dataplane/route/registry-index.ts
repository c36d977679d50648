import type { IpAddress } from '../../../shared/address.js';
import {
  registryKey,
  type RegistryEntry,
  type RegistryService,
  type WorkloadEntry,
} from '../../../shared/routing/registry-entry.js';
import { precedes, selects, type RegistryView } from '../../../shared/routing/registry-view.js';
import { Claims } from './claims.js';
import { ImageReader } from '../image/image-reader.js';
import type { RegistryChange, RegistryImage } from '../image/registry-image.js';
import { addressTerm, keyTerm, labelTerm, vipTerm } from '../image/registry-terms.js';
import type { ServiceName, WorkloadName } from '../../../shared/routing/names.js';

/**
 * A worker's view of the registry, with lookups by address, by VIP and by name, and the endpoints of a service. Most entries
 * are in an image that all workers share; this index holds what changed since. Entries are immutable, so callers may keep
 * them.
 */
export class RegistryIndex implements RegistryView {
  #image: ImageReader | null = null;
  /** Numbers of the image's entries that were replaced or removed since. */
  readonly #outdated = new Set<number>();
  /** Entries that were added or replaced after the image. */
  readonly #entries = new Map<string, RegistryEntry>();
  readonly #byAddress = new Claims<WorkloadEntry>();
  readonly #byVip = new Claims<RegistryService>();
  readonly #byNamespace = new Map<string, Map<string, WorkloadEntry>>();
  readonly #keys = new WeakMap<RegistryService, string>();
  /** By service key; dropped when a workload of the namespace changes. */
  readonly #endpoints = new Map<string, readonly WorkloadEntry[]>();
  #unreadable: ReadonlyMap<IpAddress, string> = new Map();
  #unreadableKeys: ReadonlySet<string> = new Set();
  #isFilled = false;
  #changes = 0;

  /** False until the first message: an agent without a registry must not treat every address as external. */
  get isFilled(): boolean {
    return this.#isFilled;
  }

  /** Grows with each {@link apply}. */
  get changes(): number {
    return this.#changes;
  }

  get size(): number {
    return (this.#image?.size ?? 0) - this.#outdated.size + this.#entries.size;
  }

  apply({ image, upserts, removals, unreadable }: RegistryChange): void {
    if (image !== null) this.#replace(image);
    for (const key of removals) this.#remove(key);
    for (const entry of upserts) this.#upsert(entry);
    if (unreadable !== undefined) {
      this.#unreadable = unreadable;
      this.#unreadableKeys = new Set(unreadable.values());
    }
    this.#isFilled = true;
    this.#changes += 1;
  }

  /**
   * The registry key of an entry that has this address and that this agent cannot read. Connections to and from it are
   * refused: it belongs to the mesh, and nothing else is known of it.
   */
  unreadableAt(ip: IpAddress): string | undefined {
    return this.#unreadable.get(ip);
  }

  /** Whether the workload has addresses that are closed because its entry cannot be read. */
  isUnreadable(name: WorkloadName): boolean {
    return this.#unreadableKeys.has(workloadKey(name));
  }

  workloadAt(ip: IpAddress): WorkloadEntry | undefined {
    return firstOf(this.#byAddress.get(ip), this.#find(addressTerm(ip), ip, hasAddress));
  }

  workload(name: WorkloadName): WorkloadEntry | undefined {
    const entry = this.#entry(workloadKey(name));
    return entry?.kind === 'workload' ? entry : undefined;
  }

  serviceAt(ip: IpAddress): RegistryService | undefined {
    return firstOf(this.#byVip.get(ip), this.#find(vipTerm(ip), ip, hasVip));
  }

  service(name: ServiceName): RegistryService | undefined {
    const entry = this.#entry(`service.${name.replace('/', '.')}`);
    return entry?.kind === 'service' ? entry : undefined;
  }

  endpointsOf(service: RegistryService): readonly WorkloadEntry[] {
    // Each connection asks, and a text that is made for it is hashed again.
    let key = this.#keys.get(service);
    if (key === undefined) this.#keys.set(service, (key = registryKey(service)));
    const known = this.#endpoints.get(key);
    if (known !== undefined) return known;
    const found = this.#selected(service);
    this.#endpoints.set(key, found);
    return found;
  }

  #selected(service: RegistryService): WorkloadEntry[] {
    const { namespace, selector } = service;
    const isSelected = (entry: RegistryEntry): entry is WorkloadEntry =>
      entry.kind === 'workload' && selects(service, entry);
    const found = [...(this.#byNamespace.get(namespace)?.values() ?? [])].filter(isSelected);
    const image = this.#image;
    const terms = Object.entries(selector).map(([label, value]) => labelTerm(namespace, label, value));
    if (image !== null && terms.length > 0) {
      const rarest = terms.reduce((a, b) => (image.count(b) < image.count(a) ? b : a));
      const numbers = new Set<number>();
      for (let posting = image.first(rarest); posting !== 0; posting = image.next(posting)) {
        numbers.add(image.numberAt(posting));
      }
      const present = [...numbers].filter((number) => !this.#outdated.has(number));
      found.push(...present.map((number) => image.entry(number)).filter(isSelected));
    }
    return found.sort((a, b) => (precedes(a, b) ? -1 : 1));
  }

  #entry(key: string): RegistryEntry | undefined {
    const changed = this.#entries.get(key);
    if (changed !== undefined) return changed;
    const number = this.#numberOf(key);
    return number === undefined ? undefined : this.#image?.entry(number);
  }

  /** The first entry of the image, by {@link precedes}, that has the term and the address. No function is made for a look-up. */
  #find<K extends RegistryEntry>(
    term: number,
    ip: IpAddress,
    hasIt: (entry: RegistryEntry, ip: IpAddress) => entry is K,
  ): K | undefined {
    const image = this.#image;
    if (image === null) return undefined;
    let found: K | undefined;
    for (let posting = image.first(term); posting !== 0; posting = image.next(posting)) {
      const number = image.numberAt(posting);
      if (this.#outdated.has(number)) continue;
      const entry = image.entry(number);
      if (hasIt(entry, ip)) found = firstOf(found, entry);
    }
    return found;
  }

  /** The number of the image's entry with this key, unless it is outdated. */
  #numberOf(key: string): number | undefined {
    const image = this.#image;
    if (image === null) return undefined;
    const term = keyTerm(key);
    for (let posting = image.first(term); posting !== 0; posting = image.next(posting)) {
      const number = image.numberAt(posting);
      if (!this.#outdated.has(number) && registryKey(image.entry(number)) === key) return number;
    }
    return undefined;
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
    const number = this.#numberOf(key);
    if (number !== undefined) this.#removeFromImage(key, number);
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

  #removeFromImage(key: string, number: number): void {
    const entry = this.#image?.entry(number);
    this.#outdated.add(number);
    if (entry?.kind === 'workload') this.#forgetEndpointsIn(entry.namespace);
    else this.#endpoints.delete(key);
  }

  #forgetEndpointsIn(namespace: string): void {
    const prefix = `service.${namespace}.`;
    for (const key of this.#endpoints.keys()) if (key.startsWith(prefix)) this.#endpoints.delete(key);
  }

  #replace(image: RegistryImage): void {
    this.#image = new ImageReader(image);
    this.#outdated.clear();
    this.#entries.clear();
    this.#byAddress.clear();
    this.#byVip.clear();
    this.#byNamespace.clear();
    this.#endpoints.clear();
  }
}

function hasAddress(entry: RegistryEntry, ip: IpAddress): entry is WorkloadEntry {
  return entry.kind === 'workload' && entry.addresses.includes(ip);
}

function hasVip(entry: RegistryEntry, ip: IpAddress): entry is RegistryService {
  return entry.kind === 'service' && entry.vips.includes(ip);
}

function workloadKey(name: WorkloadName): string {
  return `workload.${name.replace('/', '.')}`;
}

function firstOf<E extends RegistryEntry>(a: E | undefined, b: E | undefined): E | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return precedes(b, a) ? b : a;
}
