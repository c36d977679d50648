/** The agent's ports. They are the same as in Istio's ambient mode, so people, NetworkPolicies and tools know them. */
export const capturePorts = { outbound: 15001, inboundPlaintext: 15006, inboundTunnel: 15008 } as const;
export type CapturePortName = keyof typeof capturePorts;
export const capturePortNames = Object.keys(capturePorts) as readonly CapturePortName[];
export const hostPorts = { admin: 15000, metrics: 15020, health: 15021 } as const;

/** Set on every socket that the agent dials with: "own traffic, do not capture". Same value as Istio's. */
export const ownTrafficMark = 0x539;
/** Connmark and packet mark of replies to a dial from the client's own address. They are routed back to the agent. */
export const transparentReplyMark = 0x111;
/** Routing table that holds the local default route for {@link transparentReplyMark}. */
export const transparentReplyTable = 111;
