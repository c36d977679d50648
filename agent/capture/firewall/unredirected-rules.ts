import { because, type ChainPlan, chainPrefix } from './chain-plan.js';

/**
 * The chain that refuses what nat OUTPUT ought to have redirected and did not: only what is in `exemptions` (rules that
 * return) leaves a workload by itself. A SYN passes nat by when conntrack still has an entry of its addresses and ports, and
 * keeps the destination of that entry: for ten seconds after a server has refused a dial of the agent, and for two minutes
 * after one that never answered. A program that binds the agent's former port would get out through it, and so would one to
 * which the kernel gives that port by chance. Its jump goes before nat is changed and comes after, so that nothing
 * is refused while rules are replaced; that takes some tens of milliseconds.
 */
export function planUnredirected(exemptions: readonly string[]): ChainPlan {
  return {
    table: 'filter',
    hook: 'OUTPUT',
    chain: `${chainPrefix}REFUSED`,
    jumpMatch: '-p tcp',
    rules: [
      `-p tcp -m tcp ! --syn ${because('not-a-new-connection')} -j RETURN`,
      ...exemptions,
      `-p tcp -m tcp --syn ${because('not-redirected')} -j REJECT --reject-with tcp-reset`,
    ],
  };
}
