import type { IpAddress } from '../../../shared/address.js';
import type { CaptureExclusions } from '../../../shared/routing/registry-entry.js';
import type { Prober } from './probers.js';
import { type ChainPlan, renderRestore } from './chain-plan.js';
import { planHostChains } from './host-rules.js';
import { renderRules } from './workload-rules.js';

/**
 * The effect of capture as shell commands, for `culvert-agent rules --print`. `netnsPath` is only printed. Throws
 * `CAPTURE_EXCLUSION`.
 */
export function formatWorkloadRules(o: { readonly netnsPath: string; readonly exclusions: CaptureExclusions }): string {
  const { v4, v6, routes } = renderRules(o.exclusions);
  const enter = `nsenter --net=${o.netnsPath}`;
  return [
    `# in the workload's network namespace (${o.netnsPath})`,
    '# (where the agent has a cgroup of its own, own-traffic also asks for that: -m cgroup --path …)',
    hereDocument(`${enter} ip -4 -batch -`, `${routes[4].join('\n')}\n`),
    hereDocument(`${enter} iptables-restore --noflush -w 5`, v4),
    hereDocument(`${enter} ip -6 -batch -`, `${routes[6].join('\n')}\n`),
    hereDocument(`${enter} ip6tables-restore --noflush -w 5`, v6),
  ].join('\n');
}

/** The rules in the host's namespace for the given local workloads and those who may probe them. */
export function formatHostRules(workloadAddresses: readonly IpAddress[], probers: readonly Prober[]): string {
  const restore = (chains: readonly ChainPlan[]): string => renderRestore(chains, { jumps: {}, absent: [] });
  return [
    "# in the host's network namespace: what its probers open goes to the agent, which lets it pass without a rule",
    hereDocument('iptables-restore --noflush -w 5', restore(planHostChains(4, workloadAddresses, probers))),
    hereDocument('ip6tables-restore --noflush -w 5', restore(planHostChains(6, workloadAddresses, probers))),
  ].join('\n');
}

function hereDocument(command: string, input: string): string {
  return `${command} <<'END'\n${input}END`;
}
