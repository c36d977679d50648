import type { Cluster } from '../../cluster/cluster.js';

const script = [
  'nft list ruleset',
  'for n in /run/netns/*; do nsenter --net=$n nft list ruleset; done',
  'for f in /etc/cni/net.d/*; do echo "$f"; cat "$f"; echo; done',
  'for f in /opt/cni/bin/culvert* /var/lib/culvert/* /run/culvert*; do if [ -e $f ]; then echo $f; fi; done',
].join('; ');

/**
 * What the nodes have of Culvert: rules in any namespace, a plugin, files. A line for each. The state of a controller in a
 * directory of a node is the user's, and no trace.
 */
export async function nodeTraces({ nodes }: Cluster): Promise<readonly string[]> {
  const found = await Promise.all(
    nodes.map(async (node) => {
      const lines = (await node.succeed(['sh', '-c', script])).split('\n').filter((line) => isOurs(line));
      return lines.map((line) => `${node.name}: ${line.trim()}`);
    }),
  );
  return found.flat();
}

/** Kube-proxy has chains for the Service of the controller. */
function isOurs(line: string): boolean {
  const isOfOthers = line.includes('culvert-system/culvert-controller/') || line === '/var/lib/culvert/controller';
  return /culvert/i.test(line) && !isOfOthers;
}

/** The CNI configuration of each node, byte by byte. */
export async function cniOfNodes({ nodes }: Cluster): Promise<string> {
  const texts = nodes.map((node) =>
    node.succeed(['sh', '-c', 'for f in /etc/cni/net.d/* /opt/cni/bin/*; do echo $f; done; cat /etc/cni/net.d/*']),
  );
  return (await Promise.all(texts)).join('\n');
}
