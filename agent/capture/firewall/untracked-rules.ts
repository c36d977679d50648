import { because, type ChainPlan, chainPrefix } from './chain-plan.js';

const purpose = because('untracked');
const untracked = `${purpose} -j CT --notrack`;
/** Types of echo request and reply (RFC 792, RFC 4443), with which unprivileged programs can make entries too. */
const pings = {
  4: ['icmp -m icmp --icmp-type 8', 'icmp -m icmp --icmp-type 0'],
  6: ['ipv6-icmp -m icmp6 --icmpv6-type 128', 'ipv6-icmp -m icmp6 --icmpv6-type 129'],
} as const;

/**
 * The chains that keep connection tracking from what capture does not need: with the first rule of capture the kernel tracks
 * every packet of the namespace, and each of a workload's UDP packets to another port would make an entry. What ICMP says of a
 * connection is left to it: the kernel finds the connection by its entry. Only where nothing else uses it
 * (`tracked-by-others.ts`).
 */
export function planUntracked(family: 4 | 6): readonly ChainPlan[] {
  const rules = [
    ...pings[family].map((match) => `-p ${match} ${untracked}`),
    `-p ${family === 4 ? 'icmp' : 'ipv6-icmp'} ${because('about-a-connection')} -j RETURN`,
    untracked,
  ];
  const chain = { table: 'raw', jumpMatch: '! -p tcp', rules } as const;
  return [
    { ...chain, hook: 'PREROUTING', chain: `${chainPrefix}PREROUTING` },
    { ...chain, hook: 'OUTPUT', chain: `${chainPrefix}UNTRACKED` },
  ];
}

/** Without the chains of {@link planUntracked}. */
export function withoutUntracked(chains: readonly ChainPlan[]): readonly ChainPlan[] {
  return chains.filter(({ rules }) => !rules.some((rule) => rule.includes(purpose)));
}
