import type { IpAddress } from '../../../shared/address.js';
import type { Clock } from '../../../shared/policy/connection.js';
import type { SlowEnds } from '../../../shared/slow-ends.js';
import type { DescriptorReserve } from '../sockets/descriptor-reserve.js';
import type { EndpointHealth } from '../balance/endpoint-health.js';
import type { RetryBudget } from '../balance/retry-budget.js';
import type { EndpointBalancer } from '../balance/endpoint-balancer.js';
import type { DestinationLimits } from '../limit/destination-limits.js';
import type { RateLimiter } from '../limit/rate-limiter.js';
import type { DataplaneSettings } from '../settings.js';
import type { BackpressureTracker } from '../relay/backpressure-tracker.js';
import type { ShadowPool } from '../relay/shadow-pool.js';
import type { Reporter } from './reporter.js';
import type { Arrivals } from '../state/arrivals.js';
import type { WorkerState } from '../state/worker-state.js';
import type { TunnelClient } from '../tunnel/tunnel.js';
import type { LiveConnections } from './live-connections.js';
import type { NodeName } from '../../../shared/routing/names.js';

/** What all flows of a worker share. */
export type FlowContext = {
  /** Name of this host. */
  readonly node: NodeName;
  readonly state: WorkerState;
  readonly arrivals: Arrivals;
  readonly settings: DataplaneSettings;
  readonly connections: LiveConnections;
  readonly backpressure: BackpressureTracker;
  readonly tunnels: TunnelClient;
  readonly balancer: EndpointBalancer;
  readonly destinations: DestinationLimits;
  readonly rateLimiter: RateLimiter;
  readonly health: EndpointHealth;
  readonly retryBudget: RetryBudget;
  readonly shadows: ShadowPool;
  readonly reporter: Reporter;
  readonly descriptors: DescriptorReserve;
  /** Clients that are refused; see `refuseClient`. */
  readonly refusals: SlowEnds;
  readonly clock: Clock;
  /** From 0 to just below 1. */
  readonly random: () => number;
  /** The ServiceEntry, `namespace/name`, that names an address outside the mesh on a port; null when none does. */
  readonly nameExternal: (ip: IpAddress, port: number) => string | null;
};
