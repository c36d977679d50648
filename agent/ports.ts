/** The agent's ports. They are the same as in Istio's ambient mode, so people, NetworkPolicies and tools know them. */
export const capturePorts = { outbound: 15001, inboundPlaintext: 15006, inboundTunnel: 15008 } as const;
export type CapturePortName = keyof typeof capturePorts;
export const capturePortNames = Object.keys(capturePorts) as readonly CapturePortName[];

/**
 * Whether the agent's listener on a port is IP_TRANSPARENT, and rules keep other sockets from it. Where PREROUTING redirects to
 * the port, only without TCP early demultiplexing in the namespace: a client that has one port for two of the workload's ports
 * has one address pair twice then. nat resolves this only after `filter`, and the kernel keeps the socket that early
 * demultiplexing found, the first connection's, for the second one's SYN if that socket is transparent (`nf_nat_ipv4_local_in`
 * in net/netfilter/nf_nat_proto.c).
 */
export function isGuardedPort(port: number, o: { readonly hasEarlyDemux: boolean }): boolean {
  return port !== capturePorts.inboundPlaintext || !o.hasEarlyDemux;
}
/** `probes`: on loopback, and only where some program of the host may probe. */
export const hostPorts = { probes: 15004, metrics: 15020, health: 15021 } as const;

/**
 * For ports with `earlyAccept: false`, only where there are any: on 127.0.0.1 and ::1 of the client's namespace, which no
 * other host reaches.
 */
export const lateAcceptPorts = {
  /** A connection whose far side is connected is accepted here. */
  accepted: 15002,
} as const;
/** The queue of the client's namespace in which a SYN waits for its verdict. */
export const synQueueNumber = 15002;
/** The verdicts on a SYN, as marks of the packet. */
export const synMarks = { accepted: 0x53a, refused: 0x53b } as const;

/** Other programs may use the upper bits of marks. */
export const markMask = 0xfff;
/** Set on every socket that the agent dials with: "own traffic, do not capture". Same value as Istio's. */
export const ownTrafficMark = 0x539;
/** Connmark and packet mark of replies to a dial from the client's own address. They are routed back to the agent. */
export const transparentReplyMark = 0x111;
/** Routing table that holds the local default route for {@link transparentReplyMark}. */
export const transparentReplyTable = 111;
