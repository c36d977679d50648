import { type Cidr, formatCidr, type IpAddress, isIpv6, parseCidr } from '../../../shared/address.js';
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
import { planSynQueue, planSynVerdicts } from './late-accept-rules.js';

/** The rules of a workload's network namespace as text, for `culvert-agent rules --print`. */
export type RenderedRules = {
  /** Input for `iptables-restore --noflush`. */
  readonly v4: string;
  /** Input for `ip6tables-restore --noflush`. */
  readonly v6: string;
  /** Input for `ip -4 -batch -` and `ip -6 -batch -`. */
  readonly routes: Readonly<Record<4 | 6, readonly string[]>>;
};

/**
 * The host's probes reach a workload with this source address, the same as in Istio. The host's own rules set it on
 * connections that a socket of the host itself opened, and drop everything else that claims to come from it.
 */
export const probeSource: Readonly<Record<4 | 6, string>> = {
  4: '169.254.7.127',
  6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff',
};

/** Before `main` (32766), after any rules that others may have placed for a reason. */
export const transparentRulePriority = 32_764;
/** Conntrack zone of the agent's own dials inside a namespace; see the raw table below. */
const ownDialZone = ownTrafficMark;

const ownMark = maskedMark(ownTrafficMark);
const replyMark = maskedMark(transparentReplyMark);

const toItself = `-m addrtype --dst-type LOCAL ${because('to-itself')} -j RETURN`;

/** The complete text for a new namespace. Throws like {@link planWorkloadChains}. */
export function renderRules(exclusions: CaptureExclusions): RenderedRules {
  const fresh = { jumps: {}, absent: [] };
  return {
    v4: renderRestore(planWorkloadChains(4, exclusions), fresh),
    v6: renderRestore(planWorkloadChains(6, exclusions), fresh),
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
function planGuard(ports: readonly number[]): ChainPlan {
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
 * The chains of one address family. Redirects match SYN only, so connections that were open before are unaffected.
 * `latePorts`: destination ports of which some are accepted late. `openTo`: sources whose connections to the workload are
 * not captured yet. `isGuarded`: other sockets on the agent's ports get no connection. Throws `CAPTURE_EXCLUSION` for an invalid
 * excluded port or CIDR.
 */
export function planWorkloadChains(
  family: 4 | 6,
  exclusions: CaptureExclusions,
  latePorts: readonly number[] = [],
  openTo: readonly IpAddress[] = [],
  isGuarded = true,
): readonly ChainPlan[] {
  const notExcluded = latePorts.filter((port) => !exclusions.excludeOutboundPorts.includes(port));
  const ownPorts = [
    ...Object.values(capturePorts).filter(isGuardedPort),
    ...(notExcluded.length > 0 ? Object.values(lateAcceptPorts) : []),
  ];
  const excludedNetworks = excludedCidrs(family, exclusions).map(
    (cidr) => `-d ${formatCidr(cidr)} ${because('excluded-cidr')} -j RETURN`,
  );
  return [
    {
      // A dial from a borrowed client address can choose the port of a connection that this client already has to the
      // agent. Conntrack would take the SYN for a packet of that connection. A separate zone for the direction of the
      // dial prevents it.
      table: 'raw',
      hook: 'OUTPUT',
      chain: `${chainPrefix}OUTPUT`,
      jumpMatch: '-p tcp',
      rules: [`-o lo -p tcp -m mark --mark ${ownMark} ${because('own-dial-zone')} -j CT --zone-orig ${ownDialZone}`],
    },
    {
      table: 'mangle',
      hook: 'PREROUTING',
      chain: `${chainPrefix}PREROUTING`,
      jumpMatch: '-p tcp',
      rules: [
        `-i lo -p tcp -m mark --mark ${ownMark} ${because('remember-own-dial')} -j CONNMARK --set-xmark ${replyMark}`,
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
          `-p tcp -m mark --mark ${ownMark} ${because('own-traffic')} -j RETURN`,
          toItself,
          ...excludedNetworks,
        ]),
      ],
    },
    ...(isGuarded ? [planGuard(ownPorts)] : []),
    {
      table: 'nat',
      hook: 'PREROUTING',
      chain: `${chainPrefix}PREROUTING`,
      jumpMatch: '-p tcp',
      rules: [
        `-i lo ${because('loopback')} -j RETURN`,
        `-p tcp -m tcp --dport ${capturePorts.inboundTunnel} ${because('tunnel')} -j RETURN`,
        `-s ${probeSource[family]} -p tcp ${because('host-probe')} -j ACCEPT`,
        ...exclusions.excludeInboundPorts.map((port) => excludePort('excluded-inbound-port', port)),
        ...openTo
          .filter((ip) => isIpv6(ip) === (family === 6))
          .map((ip) => `-s ${ip} -p tcp -m tcp --syn ${because('arrives-too')} -j RETURN`),
        `-p tcp -m tcp --syn -m addrtype --dst-type LOCAL ${because('inbound')} -j REDIRECT --to-ports ${capturePorts.inboundPlaintext}`,
      ],
    },
    {
      table: 'nat',
      hook: 'OUTPUT',
      chain: `${chainPrefix}OUTPUT`,
      jumpMatch: '-p tcp',
      rules: [
        `-p tcp -m mark --mark ${ownMark} ${because('own-traffic')} -j ACCEPT`,
        toItself,
        ...exclusions.excludeOutboundPorts.map((port) => excludePort('excluded-outbound-port', port)),
        ...excludedNetworks,
        ...planSynVerdicts(notExcluded),
        `-p tcp -m tcp --syn ${because('outbound')} -j REDIRECT --to-ports ${capturePorts.outbound}`,
      ],
    },
  ];
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

function excludePort(why: string, port: number): string {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw badExclusion(`excluded port ${port}`, 'ports are whole numbers from 1 to 65535');
  }
  return `-p tcp -m tcp --dport ${port} ${because(why)} -j RETURN`;
}

function badExclusion(what: string, hint: string): CulvertError {
  return new CulvertError({ code: 'CAPTURE_EXCLUSION', message: `${what} is not valid`, hint });
}
