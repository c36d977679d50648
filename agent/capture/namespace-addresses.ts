import { closeSync } from 'node:fs';
import { parseIp, type IpAddress } from '../../shared/address.js';
import { readProcFile } from '../native/addon.js';
import { openNetns } from '../native/netns.js';

/** Which of these addresses interfaces of the namespace have. None when it cannot be read. */
export function addressesThere(netnsPath: string, addresses: readonly IpAddress[]): readonly IpAddress[] {
  try {
    const { fd } = openNetns(netnsPath);
    try {
      const there = new Set([...ipv4Of(read(fd, 'fib_trie')), ...ipv6Of(read(fd, 'if_inet6'))]);
      return addresses.filter((address) => there.has(address));
    } finally {
      closeSync(fd);
    }
  } catch {
    return [];
  }
}

/** Which of these addresses no interface of the namespace has. None when that cannot be read, or not as a whole. */
export function missingAddresses(netnsPath: string, addresses: readonly IpAddress[]): readonly IpAddress[] {
  try {
    const { fd } = openNetns(netnsPath);
    try {
      const [ipv4, ipv6] = [read(fd, 'fib_trie'), read(fd, 'if_inet6')];
      const there = new Set([...ipv4Of(ipv4), ...ipv6Of(ipv6)]);
      const isSure = (text: string): boolean => text !== '' && text.length < maxReadBytes;
      // With local routes for whole networks any address in them is its own. Other tables are for marked packets, of ours.
      const hasNetworks = /\/(?!32 |8 )\d+ host LOCAL/.test(ipv4.replaceAll(/^Id \d+:\n(?: .*\n)*/gm, ''));
      return addresses.filter((address) => {
        const isIpv6 = address.includes(':');
        return !there.has(address) && isSure(isIpv6 ? ipv6 : ipv4) && (isIpv6 || !hasNetworks);
      });
    } finally {
      closeSync(fd);
    }
  } catch {
    return [];
  }
}

/** What `readProcFile` reads at most, less one line: what follows is missing. */
const maxReadBytes = 16 * 1024 - 256;

/** Those of {@link addressesThere} that the host, whose namespace this is, does not have itself. */
export function addressesOnlyThere(o: {
  readonly netnsPath: string;
  readonly hostPath: string;
  readonly addresses: readonly IpAddress[];
}): readonly IpAddress[] {
  const there = addressesThere(o.netnsPath, o.addresses);
  const ofHost = new Set(addressesThere(o.hostPath, there));
  return there.filter((address) => !ofHost.has(address));
}

function read(netnsFd: number, file: string): string {
  try {
    return readProcFile({ netnsFd, path: `/proc/thread-self/net/${file}` });
  } catch {
    // A kernel without that family.
    return '';
  }
}

/** Routing's own list of local addresses: each is a leaf, followed by what is known of it. */
function ipv4Of(fibTrie: string): readonly IpAddress[] {
  return [...fibTrie.matchAll(/\|-- (\S+)\n\s+\/32 host LOCAL/g)].flatMap(([, text]) => parseIp(text ?? '') ?? []);
}

function ipv6Of(ifInet6: string): readonly IpAddress[] {
  return [...ifInet6.matchAll(/^[0-9a-f]{32}/gm)].flatMap(
    ([hex]) => parseIp(hex.replaceAll(/.{4}(?=.)/g, '$&:')) ?? [],
  );
}
