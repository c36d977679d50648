/** Ports of the agent, the same as Istio ambient's, so that people, NetworkPolicies and tools know them. */
export const capturePorts = { outbound: 15001, inboundPlaintext: 15006, inboundTunnel: 15008 } as const;
export const hostPorts = { admin: 15000, metrics: 15020, health: 15021 } as const;

/** On every socket that the agent dials with: "ours, do not capture". Same value as Istio's. */
export const ownTrafficMark = 0x539;
/** Connmark and packet mark of replies to a dial that borrowed the client's address: routed back to the agent. */
export const transparentReplyMark = 0x111;
/** Routing table with the local default route for {@link transparentReplyMark}. */
export const transparentReplyTable = 111;
