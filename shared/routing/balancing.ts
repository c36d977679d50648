import type { Balancing, TrafficPolicy } from '../policy/traffic-documents.js';
import type { RegistryService } from './registry-entry.js';

/** How the endpoints of a service share connections. `policy` null: no DestinationRule says anything of it. */
export function balancingOf({ isSticky }: RegistryService, policy: TrafficPolicy | null): Balancing {
  return policy?.balancing ?? (isSticky === true ? 'source-ip' : 'least-connections');
}
