import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import type { MeshParty } from './mesh-party.js';
import { workloadName } from '../../../shared/routing/names.js';

/**
 * The names of a group of ends for people, sorted. A workload is listed once, with its addresses only if the group does
 * not contain all of them; networks outside the mesh as `external 10.0.0.0/8 except 10.1.0.0/16`.
 */
export class EndNames {
  readonly #addresses = new Map<string, number>();

  constructor({ entries }: { entries: readonly RegistryEntry[] }) {
    for (const entry of entries) {
      if (entry.kind === 'workload') this.#addresses.set(workloadName(entry), entry.addresses.length);
    }
  }

  of(ends: readonly MeshParty[]): string[] {
    const outside: string[] = [];
    const workloads = new Map<string, string[]>();
    for (const { name, party } of ends) {
      if (party.workload === null) outside.push(`external ${name}`);
      else {
        const addresses = workloads.get(name);
        if (addresses === undefined) workloads.set(name, [party.ip]);
        else addresses.push(party.ip);
      }
    }
    const inside = [...workloads].flatMap(([name, addresses]) => {
      const isWhole = addresses.length >= (this.#addresses.get(name) ?? 0);
      return isWhole ? [name] : addresses.map((ip) => `${name}[${ip}]`);
    });
    return [...inside.sort(), ...outside];
  }
}
