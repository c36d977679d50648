import { NetworkIndex } from './network-index.js';
import { readCidr } from './conditions.js';
import type { CompiledExternal } from '../snapshot.js';

/** Which addresses outside the mesh ServiceEntries name, and on which ports. */
export class ExternalAddresses {
  readonly #index = new NetworkIndex<CompiledExternal>();

  /** Throws CulvertError `SNAPSHOT_INVALID` for a CIDR that cannot be read. */
  constructor({ externals }: { readonly externals: readonly CompiledExternal[] }) {
    for (const external of externals) {
      for (const cidr of external.cidrs) this.#index.add(readCidr(cidr), external);
    }
  }

  /** The ServiceEntries that name the address, on some port. */
  namedAt(ip: readonly number[]): readonly CompiledExternal[] {
    const found = new Set<CompiledExternal>();
    this.#index.forEach(ip, (external) => found.add(external));
    return [...found];
  }
}
