import { cidrContains, ipBytes, parseCidr, type Cidr, type IpAddress } from '../address.js';
import type { CompiledExternal, PortRange } from '../policy/snapshot.js';

/** Answers that are remembered; a scan must not fill memory. */
const maxRemembered = 10_000;

type NamedNetwork = { readonly cidr: Cidr; readonly ports: readonly PortRange[]; readonly name: string };

/**
 * A function that says which ServiceEntry, `namespace/name`, has an address on a port: the one with the longest prefix,
 * the first by name among equals; null: none. `externals` is asked at every call and may change.
 */
export function externalNames(
  externals: () => readonly CompiledExternal[],
): (ip: IpAddress, port: number) => string | null {
  let known: readonly CompiledExternal[] | null = null;
  let networks: readonly NamedNetwork[] = [];
  const remembered = new Map<string, string | null>();
  return (ip, port) => {
    const current = externals();
    if (current !== known) {
      known = current;
      networks = namedNetworks(current);
      remembered.clear();
    }
    if (networks.length === 0) return null;
    const key = `${ip} ${port}`;
    const answer = remembered.get(key);
    if (answer !== undefined) return answer;
    const name = nameOf(networks, ip, port);
    if (remembered.size >= maxRemembered) remembered.clear();
    remembered.set(key, name);
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
