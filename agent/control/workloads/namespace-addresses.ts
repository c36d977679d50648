import { closeSync } from 'node:fs';
import { parseIp, type IpAddress } from '../../../shared/address.js';
import { readProcFile } from '../../native/addon.js';
import { openNetns } from '../../native/netns.js';

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
