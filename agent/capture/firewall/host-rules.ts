import { type IpAddress, isIpv6 } from '../../../shared/address.js';
import { because, type ChainPlan, chainPrefix } from './chain-plan.js';
import { probeSource } from './workload-rules.js';

/**
 * The chains in the host's own namespace. Connections that a socket of the host itself opens to a local workload (a
 * kubelet's probe) get the probe source address, which the workload's rules let through. Forwarded traffic has no
 * socket here, so it never gets that address, whatever NAT did to it, and packets that arrive with it are dropped.
 */
export function planHostChains(family: 4 | 6, workloadAddresses: readonly IpAddress[]): readonly ChainPlan[] {
  const addresses = workloadAddresses.filter((address) => isIpv6(address) === (family === 6)).toSorted();
  if (addresses.length === 0) return [];
  return [
    {
      table: 'mangle',
      hook: 'PREROUTING',
      chain: `${chainPrefix}PREROUTING`,
      jumpMatch: '-p tcp',
      rules: [`-s ${probeSource[family]} -p tcp ${because('forged-probe')} -j DROP`],
    },
    {
      table: 'nat',
      hook: 'POSTROUTING',
      chain: `${chainPrefix}POSTROUTING`,
      // Only what the host's own sockets send reaches the list of addresses.
      jumpMatch: '-p tcp -m owner --socket-exists',
      rules: [...new Set(addresses)].map(
        (address) =>
          `-d ${address} -p tcp -m tcp --syn ${because('host-probe')} -j SNAT --to-source ${probeSource[family]}`,
      ),
    },
  ];
}
