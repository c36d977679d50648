import type { WarmupPolicy } from './warmup.js';

/**
 * What a snapshot says of where connections go and how many there may be. None of it changes what is allowed: each endpoint is
 * authorized as without it.
 */

/** Istio's DestinationRule. It never changes what is allowed: each endpoint is authorized as without it. */
export type CompiledDestinationRule = {
  readonly namespace: string;
  readonly name: string;
  /** A whole name (`web.shop.svc.cluster.local`), or a wildcard: `*.shop.svc.cluster.local`, `*`. See `service-hosts.ts`. */
  readonly host: string;
  /** Namespaces whose clients go by it; absent: all. Clients of its own namespace always do. */
  readonly exportTo?: readonly string[];
  readonly policy: TrafficPolicy;
  /** By port of the service. It replaces `policy` as a whole. */
  readonly ports: Readonly<Record<string, TrafficPolicy>>;
  /** Absent: there is none. */
  readonly subsets?: readonly DestinationSubset[];
};

/** The endpoints of a service that are workloads with all of these labels. */
export type DestinationSubset = {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Precedes that of the rule, field by field. */
  readonly policy: TrafficPolicy;
  /** Replaces all others for the port. */
  readonly ports: Readonly<Record<string, TrafficPolicy>>;
};

/** Istio's VirtualService, limited to its TCP routes among subsets of the service itself. It never changes what is allowed. */
export type CompiledVirtualService = {
  readonly namespace: string;
  readonly name: string;
  /** As in {@link CompiledDestinationRule}, and never a wildcard. */
  readonly host: string;
  readonly exportTo?: readonly string[];
  /** The first that matches counts. Where none does, connections go as without the document. */
  readonly routes: readonly TrafficRoute[];
};

/** `matches`: alternatives; an empty list matches every connection. */
export type TrafficRoute = {
  /** Document and line, `TCPRoute/shop/web spec.rules[0]`; absent: a route of the VirtualService itself. */
  readonly origin?: string;
  readonly matches: readonly RouteMatch[];
  readonly choices: readonly WeightedSubset[];
  /** How many more endpoints are tried when one cannot be reached; absent: as the agent says. */
  readonly attempts?: number;
  /** For connecting to one of them. At least 1. */
  readonly perTryTimeoutMs?: number;
  /** For connecting at all. At least 1. */
  readonly timeoutMs?: number;
  readonly faults?: RouteFaults;
  readonly mirror?: RouteMirror;
};

/**
 * What the client sends on some connections is copied there, and the answers are dropped; see `shared/routing/mirrors.ts`.
 * `service`: `namespace/name`; absent: the service that was dialled, and its port. `port`: of `service`; absent: the one that
 * was dialled.
 */
export type RouteMirror = {
  /** Of new connections, from 0 to 100. */
  readonly percent: number;
  readonly subset: string | null;
  readonly service?: string;
  readonly port?: number;
};

/** What is done on purpose to some connections that the rules allow. Each is drawn by itself; see `shared/routing/faults.ts`. */
export type RouteFaults = {
  /** Before an endpoint is connected: at least 1, at most {@link longestDelayMs}. */
  readonly delay?: FaultShare & { readonly delayMs: number };
  /** The connection is refused. */
  readonly abort?: FaultShare;
  /** Of one connection, each way. At least 1. */
  readonly throttle?: FaultShare & { readonly bytesPerSecond: number };
};

/** `percent`: of new connections, from 0 to 100. `expiresAtMs`: from then on there are none; absent: no end is written. */
export type FaultShare = { readonly percent: number; readonly expiresAtMs?: number };

/** Most clients have given up by then, and each has a place among the connections of its workload meanwhile. */
export const longestDelayMs = 300_000;

/** All fields that are there must match. */
export type RouteMatch = {
  /** The dialled one. */
  readonly port?: number;
  /** CIDR texts, of the dialled address. */
  readonly destinationSubnets?: readonly string[];
  readonly sourceLabels?: Readonly<Record<string, string>>;
  readonly sourceNamespace?: string;
};

/** `subset` null: all endpoints of the service. The weight is relative to that of the others. */
export type WeightedSubset = {
  readonly subset: string | null;
  readonly weight: number;
  /** Where the connection goes; absent: to the service and the port that were dialled. */
  readonly backend?: RouteBackend;
};

/** A service (`namespace/name`) and a port of it. `invalid`: why connections to it are refused; absent: they are not. */
export type RouteBackend = { readonly service: string; readonly port: number | null; readonly invalid?: string };

export type TrafficPolicy = {
  /** Absent: by open connections, or by the client's address where the service itself is sticky. */
  readonly balancing?: Balancing;
  /** Absent: a workload that becomes ready gets its whole share at once. */
  readonly warmup?: WarmupPolicy;
  readonly connections?: ConnectionLimits;
  /** Absent: no endpoint is ejected. */
  readonly outliers?: OutlierPolicy;
  /** Absent: each connection may try as many endpoints as its route or the agent says. */
  readonly retries?: RetryBudgetPolicy;
};

/** Of the new connections of the last ten seconds this share may try another endpoint, and at any time this many. */
export type RetryBudgetPolicy = {
  /** From 0 to 100. */
  readonly percent: number;
  readonly minConcurrency: number;
};

/** When an endpoint that fails is left out, and for how long. Percentages are whole numbers from 0 to 100. */
export type OutlierPolicy = {
  /** In a row; at least 1. */
  readonly failures: number;
  /** The first time; later ones are longer. At least 1. */
  readonly baseEjectionMs: number;
  /** Healthy time that takes one ejection back. At least 1. */
  readonly decayMs: number;
  readonly maxEjectionPercent: number;
  readonly minHealthPercent: number;
};

/** Of connections to a destination. What is absent the agent's settings say. */
export type ConnectionLimits = {
  /** Open ones of an agent, and those that it is opening. */
  readonly max?: number;
  /** Those that it is opening. */
  readonly maxPending?: number;
  /** To one endpoint. At least 1. */
  readonly connectTimeoutMs?: number;
  /** Without a byte; 0: without limit. */
  readonly idleTimeoutMs?: number;
  /** At least 1. */
  readonly maxDurationMs?: number;
  /** Absent: only the keepalive of the application ends a connection to an endpoint that is gone. */
  readonly keepalive?: KeepalivePolicy;
};

/** How an endpoint is asked whether it is still there. */
export type KeepalivePolicy = {
  /** Without a segment until it is first asked, and between two questions: whole seconds, 1 to 32767. */
  readonly idleSeconds: number;
  readonly everySeconds: number;
  /** This many without an answer end the connection: 1 to 127. */
  readonly probes: number;
};

/**
 * `round-robin`: in turns. `random`: each endpoint is as likely. `source-ip`: by a hash of the client's address, so a client
 * keeps its endpoint. `least-connections`: of the next in turn and a random endpoint the one with fewer open connections.
 */
export const balancings = ['round-robin', 'random', 'source-ip', 'least-connections'] as const;
export type Balancing = (typeof balancings)[number];

/** A document that bounds connections to services. Each one that is for a connection must let it pass. */
export type CompiledRateLimit = {
  readonly namespace: string;
  readonly name: string;
  /** As in {@link CompiledDestinationRule}. */
  readonly host: string;
  /** Dialled ports; absent: all. */
  readonly ports?: readonly number[];
  /** Alternatives; absent: all clients. */
  readonly sources?: readonly RateLimitSource[];
  /** Which connections have one budget: those of an identity, to a port of a service, or of one to the other. */
  readonly per: (typeof rateLimitBudgets)[number];
  /** New connections. Absent: as many as there are. */
  readonly rate?: ConnectionRate;
  /** Open ones, and those that are being opened. At least 1; absent: without limit. */
  readonly max?: number;
  /** Of all connections of a budget together, each way. At least 1; absent: without limit. */
  readonly bytesPerSecond?: number;
  /** `audit`: refuses nothing, and counts what it would have refused. */
  readonly mode: 'enforce' | 'audit';
};

export const rateLimitBudgets = ['source', 'destination', 'pair'] as const;

/** `burst`: as many at once when there were none for a while; at least 1. `perSecond`: above 0, also less than 1. */
export type ConnectionRate = { readonly perSecond: number; readonly burst: number };

/** All fields that are there must match the workload that dials. */
export type RateLimitSource = {
  readonly namespace?: string;
  /** `namespace/name`. */
  readonly serviceAccount?: string;
  readonly labels?: Readonly<Record<string, string>>;
};
