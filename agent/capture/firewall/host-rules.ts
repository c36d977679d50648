import { type IpAddress, isIpv6 } from '../../../shared/address.js';
import { hostPorts, ownTrafficMark } from '../../ports.js';
import type { Prober } from './probers.js';
import { because, type ChainPlan, chainPrefix, maskedMark } from './chain-plan.js';
import { planGuard, type PlanOptions } from './workload-rules.js';

/**
 * The chains in the host's own namespace: what the named programs of the host open to a local workload goes to the agent's
 * listener on the loopback interface, which carries it on inside the workload's namespace. Nothing of it is ever on a link, so
 * nothing that comes over one can pass as a probe. Forwarded traffic does not pass OUTPUT. What the agent opens for itself is no
 * probe, and no other program that listens on the port gets one. Empty without a prober.
 */
export function planHostChains(
  family: 4 | 6,
  workloadAddresses: readonly IpAddress[],
  probers: readonly Prober[],
  { isGuarded = true, ownCgroup = null }: Pick<PlanOptions, 'isGuarded' | 'ownCgroup'> = {},
): readonly ChainPlan[] {
  const addresses = workloadAddresses.filter((address) => isIpv6(address) === (family === 6)).toSorted();
  if (addresses.length === 0 || probers.length === 0) return [];
  const ofAgent = [
    `-m mark --mark ${maskedMark(ownTrafficMark)}`,
    ...(ownCgroup === null ? [] : [`-m cgroup --path ${ownCgroup}`]),
  ];
  return [
    ...(isGuarded ? [{ ...planGuard([hostPorts.probes]), jumpMatch: '-i lo -p tcp' }] : []),
    {
      table: 'nat',
      hook: 'OUTPUT',
      chain: `${chainPrefix}OUTPUT`,
      jumpMatch: '-p tcp',
      rules: [
        ...ofAgent.map((match) => `-p tcp ${match} ${because('own-traffic')} -j RETURN`),
        ...[...new Set(addresses)].flatMap((address) =>
          probers.map(
            (prober) =>
              `-d ${address} -p tcp -m tcp --syn ${matchOf(prober)} ${because('host-probe')} -j REDIRECT --to-ports ${hostPorts.probes}`,
          ),
        ),
      ],
    },
  ];
}

function matchOf(prober: Prober): string {
  if (prober.kind === 'uid') return `-m owner --uid-owner ${prober.uid}`;
  if (prober.kind === 'cgroup') return `-m cgroup --path ${prober.path}`;
  return `--sport ${prober.from}:${prober.to}`;
}
