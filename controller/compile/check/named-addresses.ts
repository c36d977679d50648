import { parseCidr, type Cidr } from '../../../shared/address.js';
import { matchesPorts } from '../../../shared/policy/prepared/prepared-rule.js';
import type { CompiledExternal, PortRange } from '../../../shared/policy/snapshot.js';

const everyPort: readonly PortRange[] = [[1, 65_535]];

/** Addresses outside the mesh that are not external, by the ServiceEntries of `meshWideExternals`. */
export class NamedAddresses {
  /** On some port; a source has no port that counts, so for a source these are the ones. */
  readonly cidrs: readonly Cidr[];
  readonly #entries: readonly { readonly cidrs: readonly Cidr[]; readonly ports: readonly PortRange[] }[];
  /** First ports of ranges and first ports after ranges. The same addresses have names on all ports between two. */
  readonly #borders: readonly number[];
  readonly #byPort = new Map<number, readonly Cidr[]>();

  constructor({ externals }: { readonly externals: readonly CompiledExternal[] }) {
    this.#entries = externals.map(({ cidrs, ports }) => ({
      cidrs: cidrs.map(parseCidr).filter((cidr) => cidr !== undefined),
      ports,
    }));
    this.cidrs = this.#entries.flatMap(({ cidrs }) => cidrs);
    const borders = externals.flatMap(({ ports }) => ports.flatMap(([first, last]) => [first, last + 1]));
    this.#borders = [...new Set(borders)].sort((a, b) => a - b);
  }

  /** A port of each kind among `ranges`: on the others, the same addresses have names. Empty ranges are every port. */
  *portsIn(ranges: readonly PortRange[]): Generator<number> {
    for (const [first, last] of ranges.length === 0 ? everyPort : ranges) {
      yield first;
      for (const border of this.#borders) if (border > first && border <= last) yield border;
    }
  }

  on(port: number): readonly Cidr[] {
    let cidrs = this.#byPort.get(port);
    if (cidrs === undefined) {
      const named = this.#entries.filter(({ ports }) => matchesPorts(ports, port, null));
      this.#byPort.set(port, (cidrs = named.flatMap((entry) => entry.cidrs)));
    }
    return cidrs;
  }
}
