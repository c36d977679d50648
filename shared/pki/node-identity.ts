/** `spiffe://<trust domain>/culvert/node/<node>`: an agent itself. It is no workload identity, so no tunnel accepts it. */
export function nodeSpiffeId(trustDomain: string, node: string): string {
  return `spiffe://${trustDomain}/culvert/node/${node}`;
}
