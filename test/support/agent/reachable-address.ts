/**
 * For a shell that stops at a failure (`sh -e`): waits until an IPv6 address that was added in a namespace can be dialled, 20 s
 * at most. The kernel adds the route of such an address in a queue of work of its own, also with `nodad`: a dial before that
 * ends with ENETUNREACH.
 */
export function untilReachable(netns: string, address: string): string {
  const isThere = `ip -n ${netns} -6 route get ${address} >/dev/null 2>&1`;
  return `tries=0; until ${isThere}; do tries=$((tries + 1)); [ $tries -lt 400 ]; sleep 0.05; done`;
}
