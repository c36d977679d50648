import { cidrContains, ipBytes, parseCidr, type Cidr, type IpAddress } from '../address.js';
import type { CompiledExternal, PortRange } from '../policy/snapshot.js';

/** Bounds the cache, so that a port scan does not fill memory. */
const maxCached = 10_000;

type NamedNetwork = { readonly cidr: Cidr; readonly ports: readonly PortRange[]; readonly name: string };

/**
 * Returns a function that finds the ServiceEntry, `namespace/name`, for an address and a port: the one with the longest
 * prefix, and among equals the first by name; null when there is none. `externals` is read at every call and may change.
 */
export function externalNames(
  externals: () => readonly CompiledExternal[],
): (ip: IpAddress, port: number) => string | null {
  let known: readonly CompiledExternal[] | null = null;
  let networks: readonly NamedNetwork[] = [];
  const cache = new Map<string, string | null>();
  return (ip, port) => {
    const current = externals();
    if (current !== known) {
      known = current;
      networks = namedNetworks(current);
      cache.clear();
    }
    if (networks.length === 0) return null;
    const key = `${ip} ${port}`;
    const answer = cache.get(key);
    if (answer !== undefined) return answer;
    const name = nameOf(networks, ip, port);
    if (cache.size >= maxCached) cache.clear();
    cache.set(key, name);
    return name;
  };
}

function nameOf(networks: readonly NamedNetwork[], ip: IpAddress, port: number): string | null {
  const bytes = ipBytes(ip);
  const found = networks.find(
    ({ cidr, ports }) =>
      (ports.length === 0 || ports.some(([first, last]) => first <= port && port <= last)) && cidrContains(cidr, bytes),
  );
  return found?.name ?? null;
}

function namedNetworks(externals: readonly CompiledExternal[]): NamedNetwork[] {
  return externals
    .flatMap(({ name, cidrs, ports }) =>
      cidrs.flatMap((text) => {
        const cidr = parseCidr(text);
        return cidr === undefined ? [] : [{ cidr, ports, name }];
      }),
    )
    .sort((a, b) => b.cidr.prefixLength - a.cidr.prefixLength || (a.name < b.name ? -1 : 1));
}
