/** The applications behind every path. `peer` is part of the benchmark: it echoes or streams (peer-server.ts). */
export const serviceNames = ['http', 'bulk', 'redis', 'peer'] as const;
export type ServiceName = (typeof serviceNames)[number];

/**
 * An application listens on two ports: one that the agents capture, and a plain one that they do not, for the direct path and
 * for the other proxies.
 */
export const servicePorts: Readonly<Record<ServiceName, { readonly captured: number; readonly plain: number }>> = {
  http: { captured: 80, plain: 8001 },
  bulk: { captured: 5201, plain: 8002 },
  redis: { captured: 6379, plain: 8003 },
  peer: { captured: 7000, plain: 8004 },
};

/** Ports of one pair of proxies for one application. */
export type PairPorts = {
  /** The port that the client dials at the server's address; a REDIRECT rule sends it to `source`. */
  readonly dialled: number;
  /** Where the side in the client's namespace listens. */
  readonly source: number;
  /** Where the side in the server's namespace listens. */
  readonly destination: number;
};

/** How many adapters have ports. */
export const maxAdapters = 20;

/** `index` from 0 to {@link maxAdapters} - 1. */
export function pairPorts(index: number, service: ServiceName): PairPorts {
  const at = index * 10 + serviceNames.indexOf(service);
  return { dialled: 8100 + at, source: 8300 + at, destination: 8500 + at };
}

/** The ports that the agents must not capture, for `adapters` pairs of proxies. */
export function uncapturedPorts(adapters: number): { readonly outbound: number[]; readonly inbound: number[] } {
  const plain = serviceNames.map((service) => servicePorts[service].plain);
  const pairs = Array.from({ length: adapters }, (_, index) => index).flatMap((index) =>
    serviceNames.map((service) => pairPorts(index, service)),
  );
  const destinations = pairs.map(({ destination }) => destination);
  return {
    outbound: [...plain, ...pairs.map(({ dialled }) => dialled), ...destinations],
    inbound: [...plain, ...destinations],
  };
}
