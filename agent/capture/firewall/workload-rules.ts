import { type Cidr, formatCidr, isIpv6, parseCidr } from '../../../shared/address.js';
import { CulvertError } from '../../../shared/errors.js';
import type { CaptureExclusions } from '../../../shared/routing/registry-entry.js';
import {
  capturePorts,
  isGuardedPort,
  lateAcceptPorts,
  ownTrafficMark,
  transparentReplyMark,
  transparentReplyTable,
} from '../../ports.js';
import { because, type ChainPlan, chainPrefix, maskedMark, renderRestore } from './chain-plan.js';
import { planUntracked } from './untracked-rules.js';
import { planSynQueue, planSynVerdicts, planUnansweredSyn } from './late-accept-rules.js';
import { planUnredirected } from './unredirected-rules.js';

/** The rules of a workload's network namespace as text, for `culvert-agent rules --print`. */
export type RenderedRules = {
  /** Input for `iptables-restore --noflush`. */
  readonly v4: string;
  /** Input for `ip6tables-restore --noflush`. */
  readonly v6: string;
  /** Input for `ip -4 -batch -` and `ip -6 -batch -`. */
  readonly routes: Readonly<Record<4 | 6, readonly string[]>>;
};

/** Before `main` (32766), after any rules that others may have placed for a reason. */
export const transparentRulePriority = 32_764;
/** Conntrack zone of the agent's own dials inside a namespace; see the raw table below. */
const ownDialZone = ownTrafficMark;

const ownMark = maskedMark(ownTrafficMark);
const replyMark = maskedMark(transparentReplyMark);

const toItself = `-m addrtype --dst-type LOCAL ${because('to-itself')} -j RETURN`;

/** The complete text for a new namespace. Throws like {@link planWorkloadChains}. */
export function renderRules(exclusions: CaptureExclusions, options: PlanOptions = {}): RenderedRules {
  const fresh = { jumps: {}, absent: [] };
  return {
    v4: renderRestore(planWorkloadChains(4, exclusions, options), fresh),
    v6: renderRestore(planWorkloadChains(6, exclusions, options), fresh),
    routes: { 4: [ipRule('add'), ipRoute('add')], 6: [ipRule('add'), ipRoute('add')] },
  };
}

/**
 * The policy-routing rule that delivers replies to dials from a borrowed address to the agent instead of the address's
 * owner.
 */
export function ipRule(verb: 'add' | 'del'): string {
  return `rule ${verb} pref ${transparentRulePriority} fwmark ${replyMark} lookup ${transparentReplyTable}`;
}

export function ipRoute(verb: 'add' | 'del'): string {
  return `route ${verb} local default dev lo table ${transparentReplyTable}`;
}

/**
 * Refuses what does not reach a listener of the agent: a socket that is IP_TRANSPARENT. A program without CAP_NET_RAW and
 * CAP_NET_ADMIN cannot make one, so when it took a port before the agent did, or while there was none, it gets nothing. Root in
 * a container often has CAP_NET_RAW (it is among Docker's defaults), and is not kept out.
 */
export function planGuard(ports: readonly number[]): ChainPlan {
  const toOwnPorts = `-p tcp -m tcp --syn -m multiport --dports ${ports.join(',')}`;
  return {
    table: 'filter',
    hook: 'INPUT',
    chain: `${chainPrefix}INPUT`,
    jumpMatch: '-p tcp',
    rules: [
      `${toOwnPorts} -m socket --transparent --nowildcard ${because('own-listener')} -j RETURN`,
      `${toOwnPorts} ${because('no-own-listener')} -j REJECT --reject-with tcp-reset`,
    ],
  };
}

/**
 * A socket that is bound to a device (SO_BINDTODEVICE needs no right) sends there what is for the workload itself, and what
 * capture redirects to the agent: to 127.0.0.1 on the wire, past every rule of the mesh. Where OUTPUT sees it, a redirect has not
 * changed the device yet.
 */
export const toItselfOnWire: ChainPlan = {
  table: 'mangle',
  hook: 'POSTROUTING',
  chain: `${chainPrefix}POSTROUTING`,
  jumpMatch: '-p tcp',
  rules: [`! -o lo -p tcp -m tcp --syn -m addrtype --dst-type LOCAL ${because('to-itself-on-wire')} -j DROP`],
};

/**
 * Ends what would go round for ever: a socket with the agent's mark that capture brings back to the agent, because it is not of
 * the agent's cgroup. It is the agent's own, after that was moved to another cgroup, or one that pretends.
 */
const ownLoop = `-i lo -p tcp -m tcp --syn --dport ${capturePorts.outbound} -m mark --mark ${ownMark} ${because('own-loop')} -j REJECT --reject-with tcp-reset`;

/** What the chains of a workload have beyond its exclusions. */
export type PlanOptions = {
  /** Destination ports of which some are accepted late; default: none. */
  readonly latePorts?: readonly number[];
  /** Other sockets on the agent's ports get no connection; default: true. */
  readonly isGuarded?: boolean;
  /** TCP early demultiplexing of the namespace cannot be switched off, so port 15006 is not guarded; default: it can. */
  readonly hasEarlyDemux?: boolean;
  /** The cgroup in which the agent's sockets are made; null, the default: every socket with the agent's mark is exempt. */
  readonly ownCgroup?: string | null;
};

/**
 * What only a socket of the agent has. The mark alone can be set with CAP_NET_RAW (Linux 5.17), and root in a container
 * often has this capability.
 */
function ownSocket(cgroup: string | null): string {
  return `-m mark --mark ${ownMark}${cgroup === null ? '' : ` -m cgroup --path ${cgroup}`}`;
}

/** Whether chains only work without TCP early demultiplexing: they guard the port to which PREROUTING redirects. */
export function needNoEarlyDemux(chains: readonly ChainPlan[]): boolean {
  return chains.some(
    ({ hook, rules }) => hook === 'INPUT' && rules.some((rule) => rule.includes(`,${capturePorts.inboundPlaintext},`)),
  );
}

/**
 * The chains of one address family. Redirects match SYN only, so connections that were open before are unaffected.
 * Throws `CAPTURE_EXCLUSION` for an invalid excluded port or CIDR.
 */
export function planWorkloadChains(
  family: 4 | 6,
  exclusions: CaptureExclusions,
  { latePorts = [], isGuarded = true, hasEarlyDemux = false, ownCgroup = null }: PlanOptions = {},
): readonly ChainPlan[] {
  const fromAgent = `-p tcp ${ownSocket(ownCgroup)} ${because('own-traffic')}`;
  const excludedPorts = exclusions.excludeOutboundPorts.map((port) => excludePort('excluded-outbound-port', port));
  const notExcluded = latePorts.filter((port) => !exclusions.excludeOutboundPorts.includes(port));
  const ownPorts = [
    ...Object.values(capturePorts).filter((port) => isGuardedPort(port, { hasEarlyDemux })),
    ...(notExcluded.length > 0 ? Object.values(lateAcceptPorts) : []),
  ];
  const excludedNetworks = excludeNetworks(family, exclusions);
  const guard = planGuard(ownPorts);
  const refusals = [...(ownCgroup === null ? [] : [ownLoop]), ...(isGuarded ? guard.rules : [])];
  return [
    {
      // A dial from a borrowed client address can choose the port of a connection that this client already has to the
      // agent. Conntrack would take the SYN for a packet of that connection. A separate zone for the direction of the
      // dial prevents it. Here and where such a dial is remembered the mark is enough: it frees nothing from capture.
      table: 'raw',
      hook: 'OUTPUT',
      chain: `${chainPrefix}OUTPUT`,
      jumpMatch: '-p tcp',
      rules: [`-o lo -p tcp -m mark --mark ${ownMark} ${because('own-dial-zone')} -j CT --zone-orig ${ownDialZone}`],
    },
    ...planUntracked(family),
    {
      table: 'mangle',
      hook: 'PREROUTING',
      chain: `${chainPrefix}PREROUTING`,
      jumpMatch: '-p tcp',
      rules: [
        `-i lo -p tcp -m mark --mark ${ownMark} ${because('remember-own-dial')} -j CONNMARK --set-xmark ${replyMark}`,
        // A workload needs no tunnel to itself, and would take the handshakes of others.
        `-i lo -p tcp -m tcp --syn --dport ${capturePorts.inboundTunnel} ${because('tunnel-to-itself')} -j DROP`,
        `-i lo ${because('loopback')} -j RETURN`,
        ...exclusions.excludeInboundPorts.map((port) => excludePort('excluded-inbound-port', port)),
        // Nothing passes through a workload: it has one identity, and this traffic is not its own.
        `-p tcp -m tcp --syn -m addrtype ! --dst-type LOCAL ${because('not-for-this-workload')} -j DROP`,
      ],
    },
    {
      table: 'mangle',
      hook: 'OUTPUT',
      chain: `${chainPrefix}OUTPUT`,
      jumpMatch: '-p tcp',
      rules: [
        `-p tcp -m connmark --mark ${replyMark} -m conntrack --ctdir REPLY ${because('reply-to-own-dial')} -j MARK --set-xmark ${replyMark}`,
        ...planSynQueue(notExcluded, [
          // By the mark alone: what is not the agent's is refused where it is redirected to.
          `-p tcp -m mark --mark ${ownMark} ${because('own-traffic')} -j RETURN`,
          toItself,
          ...excludedNetworks,
        ]),
      ],
    },
    { ...toItselfOnWire, rules: [...toItselfOnWire.rules, ...planUnansweredSyn(notExcluded)] },
    // What was redirected is for the workload itself by now.
    planUnredirected([toItself, `${fromAgent} -j RETURN`, ...excludedPorts, ...excludedNetworks]),
    ...(refusals.length > 0 ? [{ ...guard, rules: refusals }] : []),
    {
      table: 'nat',
      hook: 'PREROUTING',
      chain: `${chainPrefix}PREROUTING`,
      jumpMatch: '-p tcp',
      rules: [
        `-i lo ${because('loopback')} -j RETURN`,
        `-p tcp -m tcp --dport ${capturePorts.inboundTunnel} ${because('tunnel')} -j RETURN`,
        ...exclusions.excludeInboundPorts.map((port) => excludePort('excluded-inbound-port', port)),
        `-p tcp -m tcp --syn -m addrtype --dst-type LOCAL ${because('inbound')} -j REDIRECT --to-ports ${capturePorts.inboundPlaintext}`,
      ],
    },
    {
      table: 'nat',
      hook: 'OUTPUT',
      chain: `${chainPrefix}OUTPUT`,
      jumpMatch: '-p tcp',
      rules: [
        `${fromAgent} -j ACCEPT`,
        toItself,
        ...excludedPorts,
        ...excludedNetworks,
        ...planSynVerdicts(notExcluded),
        `-p tcp -m tcp --syn ${because('outbound')} -j REDIRECT --to-ports ${capturePorts.outbound}`,
      ],
    },
  ];
}

export function excludeNetworks(family: 4 | 6, exclusions: CaptureExclusions): readonly string[] {
  return excludedCidrs(family, exclusions).map(
    (cidr) => `-d ${formatCidr(cidr)} ${because('excluded-cidr')} -j RETURN`,
  );
}

/** The excluded prefixes of one family. Throws `CAPTURE_EXCLUSION` for an invalid CIDR. */
export function excludedCidrs(family: 4 | 6, exclusions: CaptureExclusions): readonly Cidr[] {
  return exclusions.excludeOutboundCidrs
    .map((text) => {
      const cidr = parseCidr(text);
      if (cidr === undefined) throw badExclusion(`excluded CIDR "${text}"`, 'write it as 10.0.0.0/8 or fd00::/8');
      return cidr;
    })
    .filter((cidr) => isIpv6(cidr.base) === (family === 6));
}

export function excludePort(why: string, port: number): string {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw badExclusion(`excluded port ${port}`, 'ports are whole numbers from 1 to 65535');
  }
  return `-p tcp -m tcp --dport ${port} ${because(why)} -j RETURN`;
}

function badExclusion(what: string, hint: string): CulvertError {
  return new CulvertError({ code: 'CAPTURE_EXCLUSION', message: `${what} is not valid`, hint });
}
