/**
 * The closed set of reasons why a connection ended. The same code appears in the access log, the metric label `reason`,
 * the flow record, the `x-culvert-reason` header of a refusal and `culvert why`.
 *
 * `side`: whose fault it is. `level`: log level of its access-log line. `status`: HTTP status with which the tunnel
 * answers the CONNECT. `next`: the command to try next.
 */
export type ReasonInfo = {
  readonly side: 'none' | 'client' | 'server' | 'policy' | 'mesh';
  readonly level: 'info' | 'warn' | 'error';
  readonly status: 200 | 400 | 401 | 429 | 503;
  readonly text: string;
  readonly next: string;
};

const why = 'culvert why SRC DST:PORT';

export const reasons = {
  OK: {
    side: 'none',
    level: 'info',
    status: 200,
    text: 'The connection ended normally. A reset after both sides had finished counts as that too.',
    next: 'nothing to do',
  },
  POLICY_DENY: { side: 'policy', level: 'warn', status: 401, text: 'A rule denies this connection.', next: why },
  POLICY_DEFAULT_DENY: {
    side: 'policy',
    level: 'warn',
    status: 401,
    text: 'No rule allows this connection, and the default is deny or a NetworkPolicy or an AuthorizationPolicy with ALLOW selects the workload.',
    next: why,
  },
  POLICY_EXPIRED: {
    side: 'policy',
    level: 'warn',
    status: 401,
    text: 'The rule that allowed this connection has expired.',
    next: why,
  },
  POLICY_TERMINATED: {
    side: 'policy',
    level: 'warn',
    status: 401,
    text: 'Rules or identities changed and no longer allow this open connection, so it was cut.',
    next: why,
  },
  CONN_LIMIT: {
    side: 'policy',
    level: 'warn',
    status: 429,
    text: 'This workload has reached its limit of open connections, or of bytes that wait in them.',
    next: 'culvert status',
  },
  CIRCUIT_OPEN: {
    side: 'policy',
    level: 'warn',
    status: 429,
    text: 'As many connections to this destination are open or being opened as its DestinationRule allows, or all of its endpoints are ejected.',
    next: 'culvert endpoints NAMESPACE/NAME',
  },
  RATE_LIMITED: {
    side: 'policy',
    level: 'warn',
    status: 429,
    text: 'A RateLimit has no room for another connection: as many are open, or were opened within a short time, as it allows.',
    next: 'culvert routes SRC NAMESPACE/NAME:PORT',
  },
  MIRROR_GIVEN_UP: {
    side: 'none',
    level: 'info',
    status: 503,
    text: 'A copy of a connection (mirror) was given up: its shadow was late, or the connection that it copies did not end in order. That one goes on.',
    next: 'culvert routes SRC NAMESPACE/NAME:PORT',
  },
  FAULT_INJECTED: {
    side: 'policy',
    level: 'warn',
    status: 503,
    text: 'A VirtualService has a share of the connections refused on purpose, for a test (fault.abort).',
    next: 'culvert routes SRC NAMESPACE/NAME:PORT',
  },
  NO_ENDPOINT: {
    side: 'server',
    level: 'warn',
    status: 503,
    text: 'The service has no endpoint for this port.',
    next: 'culvert get Service NAME -n NAMESPACE',
  },
  CONNECT_REFUSED: {
    side: 'server',
    level: 'warn',
    status: 503,
    text: 'The destination refused the TCP connection: nothing listens on that port.',
    next: 'check that the application is listening on the port',
  },
  CONNECT_TIMEOUT: {
    side: 'server',
    level: 'warn',
    status: 503,
    text: 'The destination did not answer within the connect timeout.',
    next: 'check routes and firewalls between the hosts',
  },
  HOST_UNREACHABLE: {
    side: 'server',
    level: 'warn',
    status: 503,
    text: 'There is no route to the destination.',
    next: 'check routes and addresses of the hosts',
  },
  TLS_HANDSHAKE: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'The TLS handshake with the other agent failed.',
    next: 'culvert status',
  },
  PEER_IDENTITY: {
    side: 'mesh',
    level: 'error',
    status: 401,
    text: 'The other side proved a different identity than the registry has for its address.',
    next: 'culvert get Workload NAME -n NAMESPACE',
  },
  CERT_EXPIRED: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'A certificate on this connection has expired.',
    next: 'culvert status',
  },
  CERT_NOT_YET_VALID: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'A certificate on this connection is not valid yet: a clock is wrong.',
    next: 'culvert status',
  },
  CERT_REVOKED: {
    side: 'mesh',
    level: 'error',
    status: 401,
    text: 'The identity of this certificate is no longer registered on its node.',
    next: 'culvert get Workload NAME -n NAMESPACE',
  },
  PEER_RESET: {
    side: 'server',
    level: 'info',
    status: 503,
    text: 'The server side reset the connection before both sides had finished.',
    next: 'check the log of the server application',
  },
  CLIENT_RESET: {
    side: 'client',
    level: 'info',
    status: 503,
    text: 'The client side reset the connection before both sides had finished.',
    next: 'check the log of the client application',
  },
  KEEPALIVE_TIMEOUT: {
    side: 'server',
    level: 'info',
    status: 503,
    text: 'One side stopped answering, so the keepalive of the application at the other side, or of a DestinationRule, ended the connection.',
    next: 'check routes and firewalls between the hosts, and the host that does not answer',
  },
  IDLE_TIMEOUT: {
    side: 'policy',
    level: 'info',
    status: 503,
    text: 'No byte was transferred for the configured idle timeout.',
    next: 'culvert-agent config --print',
  },
  MAX_DURATION: {
    side: 'policy',
    level: 'info',
    status: 503,
    text: 'The connection reached the configured maximum duration.',
    next: 'culvert-agent config --print',
  },
  DRAIN: {
    side: 'mesh',
    level: 'info',
    status: 503,
    text: 'The agent is shutting down, or the workload left the node.',
    next: 'culvert nodes',
  },
  NO_RULES_YET: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'The agent has no rules or no certificate yet, so it refuses everything.',
    next: 'culvert status',
  },
  RULES_TOO_OLD: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'The controller has not confirmed for longer than rulesMaxAge that the rules are the newest, and rulesPastAge says refuse.',
    next: 'culvert status',
  },
  REGISTRY_UNREADABLE: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'The controller is newer than the agent, which cannot read the registry entry of this address and so refuses it.',
    next: 'upgrade the agent',
  },
  SOURCE_UNKNOWN: {
    side: 'mesh',
    level: 'warn',
    status: 401,
    text: 'The source is not a registered workload, or it proved no identity where mTLS is STRICT.',
    next: 'culvert get Workload',
  },
  NOT_OWN_ADDRESS: {
    side: 'client',
    level: 'warn',
    status: 401,
    text: 'The workload sent from an address, or was reached at one, that is not registered for it.',
    next: 'culvert get Workload NAME -n NAMESPACE',
  },
  NOT_MESHED_PEER: {
    side: 'mesh',
    level: 'warn',
    status: 503,
    text: 'The destination workload has no agent that accepts tunnels.',
    next: 'culvert nodes',
  },
  LOOP_DETECTED: {
    side: 'client',
    level: 'warn',
    status: 400,
    text: "The connection was addressed to one of the agent's own ports.",
    next: 'dial the port of the application',
  },
  PROTOCOL_ERROR: {
    side: 'mesh',
    level: 'warn',
    status: 400,
    text: 'The other side does not speak HBONE the way this agent does.',
    next: 'culvert nodes',
  },
  DESTINATION_UNREADABLE: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'The kernel did not say where the connection was going before it was redirected.',
    next: 'check conntrack on the host, and what else changes nat rules in the workload',
  },
  CAPTURE_LOST: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'The kernel dropped the entry in connection tracking that the open connection lived on, so it was ended.',
    next: 'check what flushes conntrack in the workload of this record, and its nf_conntrack_max and nf_conntrack_tcp_timeout_*',
  },
  RESOURCE_FD: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'The agent has no file descriptors left.',
    next: 'raise LimitNOFILE of the agent',
  },
  RESOURCE_PORTS: {
    side: 'mesh',
    level: 'error',
    status: 503,
    text: 'No local port is left for a connection to this destination.',
    next: 'widen net.ipv4.ip_local_port_range in the workload',
  },
} as const satisfies Record<string, ReasonInfo>;

export type Reason = keyof typeof reasons;

export function isReason(text: string): text is Reason {
  return Object.hasOwn(reasons, text);
}

export function reasonInfo(reason: Reason): ReasonInfo {
  return reasons[reason];
}
