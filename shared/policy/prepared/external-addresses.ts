import type { CompiledExternal, Snapshot } from '../snapshot.js';
import { NetworkIndex } from './network-index.js';
import { readCidr } from './conditions.js';

/**
 * The ServiceEntries whose addresses are not `external`: those of the root namespace. One of any other namespace gives
 * names for rules to refer to, and takes nothing out of what `external` and `outbound` of the mesh are about, or who may
 * write in one namespace would end a denial for all.
 */
export function meshWideExternals({
  externals,
  mesh: { rootNamespace },
}: Pick<Snapshot, 'externals'> & {
  readonly mesh: Pick<Snapshot['mesh'], 'rootNamespace'>;
}): readonly CompiledExternal[] {
  return externals.filter(({ name }) => name.startsWith(`${rootNamespace}/`));
}

/** The addresses outside the mesh that are not `external`, and on which ports. */
export class ExternalAddresses {
  readonly #index = new NetworkIndex<CompiledExternal>();

  /** Throws CulvertError `SNAPSHOT_INVALID` for a CIDR that cannot be read. */
  constructor(snapshot: Pick<Snapshot, 'externals' | 'mesh'>) {
    for (const external of meshWideExternals(snapshot)) {
      for (const cidr of external.cidrs) this.#index.add(readCidr(cidr), external);
    }
  }

  /** The ServiceEntries that take the address out, on some port. */
  namedAt(ip: readonly number[]): readonly CompiledExternal[] {
    const found = new Set<CompiledExternal>();
    this.#index.forEach(ip, (external) => found.add(external));
    return [...found];
  }
}
