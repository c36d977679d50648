import type { CaptureExclusions } from '../../../shared/routing/registry-entry.js';
import { because, type ChainPlan, chainPrefix, closedPurpose } from './chain-plan.js';
import { excludeNetworks, excludePort, toItselfOnWire } from './workload-rules.js';

const drop = `-p tcp -m tcp --syn ${because(closedPurpose)} -j DROP`;
const loopback = `-p tcp ${because('loopback')} -j RETURN`;

/**
 * The chains of a new workload until it can be served. Connections that begin wait: their SYNs are dropped, and the client's
 * kernel sends them again. Only what capture will leave alone passes, and what was open before. One table, because each costs
 * the kernel a wait, and one that comes before any redirect and needs no connection tracking. Throws `CAPTURE_EXCLUSION` like
 * `planWorkloadChains`.
 */
export function planClosedChains(family: 4 | 6, exclusions: CaptureExclusions): readonly ChainPlan[] {
  const chain = { table: 'mangle', jumpMatch: '-p tcp' } as const;
  return [
    {
      ...chain,
      hook: 'PREROUTING',
      chain: `${chainPrefix}PREROUTING`,
      rules: [
        `-i lo ${loopback}`,
        ...exclusions.excludeInboundPorts.map((port) => excludePort('excluded-inbound-port', port)),
        drop,
      ],
    },
    {
      ...chain,
      hook: 'OUTPUT',
      chain: `${chainPrefix}OUTPUT`,
      rules: [
        `-o lo ${loopback}`,
        ...exclusions.excludeOutboundPorts.map((port) => excludePort('excluded-outbound-port', port)),
        ...excludeNetworks(family, exclusions),
        drop,
      ],
    },
    toItselfOnWire,
  ];
}
