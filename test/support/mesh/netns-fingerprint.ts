import type { LabNode } from '../../lab/lab-node.js';

/** What moves without anybody's doing: caches, ages, and the counters of connection tracking. */
const volatile = /nf_conntrack_count|\.ipv4\.route\.|neigh\.[^.]*\.(?:.*_time)|random_|nf_conntrack_buckets/;

/**
 * Everything that capture could change in a namespace, as text to compare: both iptables and the tables of nft, policy rules,
 * all routing tables, links, addresses and sysctls; without counters and ages. Tables are
 * sorted: they are in the order in which they were made.
 */
export async function netnsFingerprint(node: LabNode): Promise<string> {
  const script = [
    'iptables-save; ip6tables-save; nft list tables | sort | while read -r table; do nft list $table; done',
    'ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip -o addr',
    'sysctl -a 2>/dev/null | grep ^net.',
  ].join('; ');
  const text = await node.check(['sh', '-ec', script], { timeoutMs: 30_000 });
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#') && !volatile.test(line))
    .map((line) =>
      line
        .replace(/\[\d+:\d+\]/g, '')
        .replace(/ counter packets \d+ bytes \d+/g, '')
        .replace(/ expires \d+sec/g, '')
        .replace(/ valid_lft \d+sec| preferred_lft \d+sec/g, ''),
    )
    .join('\n')
    .replaceAll(/(?:^\*\w+\n(?:.*\n)*?COMMIT\n)+/gm, (blocks) =>
      blocks
        .split(/(?<=^COMMIT\n)/m)
        .toSorted()
        .join(''),
    );
}
