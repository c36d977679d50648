import { isAbout } from '../../resources/match/peer-fields.js';
import { commonPorts, type CommonPorts } from './common-ports.js';
import type { NamedAddresses } from './named-addresses.js';
import { overlapping } from './group-overlap.js';
import { overlapOfPeers } from './peer-overlap.js';
import type { OpenRule } from '../segment-members.js';
import { isPortName, rangesOf } from '../../../shared/policy/prepared/prepared-rule.js';
import type { PeerMatch, RulePort } from '../../../shared/policy/snapshot.js';

/** What of a rule says which connections it matches. */
export type Matching = Pick<OpenRule, 'action' | 'from' | 'to' | 'ports'>;

/** In words; `ports` is `any port`, `port 5432` or `port http`. */
export type CommonConnection = { readonly from: string; readonly to: string; readonly ports: string };

/**
 * A connection that both rules match; undefined: there is none, whatever is registered. It is exact for the connections
 * that agents decide: their source proves the identity that is registered for its address, or none.
 */
export function commonConnection(a: Matching, b: Matching, named: NamedAddresses): CommonConnection | undefined {
  const ports = commonPorts(a.ports, b.ports);
  if (ports === undefined) return undefined;
  const destination = commonDestination(a, b, ports, named);
  if (destination === undefined) return undefined;
  const from = commonSource(a, b, named);
  return from === undefined ? undefined : { from, ...destination };
}

const anybody = 'anybody';
const anyPort = 'any port';

function commonSource(a: Matching, b: Matching, named: NamedAddresses): string | undefined {
  if (a.from.length === 0 && b.from.length === 0) return anybody;
  for (const { left, right, text } of overlapping(a.from, b.from)) {
    if (!mayBeOneSource(a, left, b, right)) continue;
    if (!mayBeOutside(left, right)) return text;
    const overlap = overlapOfPeers(left, right, named.cidrs);
    if (overlap !== undefined) return overlap;
  }
  return undefined;
}

/**
 * A source that proves nothing is a workload only by its address, and then only for deny rules (see `SourceFacts`): a
 * rule that does not deny matches either what the source is registered as, or that it proves nothing.
 */
function mayBeOneSource(a: Matching, left: PeerMatch, b: Matching, right: PeerMatch): boolean {
  if (left.unauthenticated !== true && right.unauthenticated !== true) return true;
  return mayProveNothing(a, left) && mayProveNothing(b, right);
}

function mayProveNothing({ action }: Matching, match: PeerMatch): boolean {
  return action === 'deny' || !isAbout(match, 'workload', 'namespace');
}

function commonDestination(
  a: Matching,
  b: Matching,
  { ports, hasNumber }: CommonPorts,
  named: NamedAddresses,
): Omit<CommonConnection, 'from'> | undefined {
  if (a.to.length === 0 && b.to.length === 0) return { to: anybody, ports: describe(ports) };
  for (const { left, right, text } of overlapping(a.to, b.to)) {
    if (!mayBeOutside(left, right)) return { to: text, ports: describe(ports) };
    // What is outside the mesh has no named ports.
    if (!hasNumber) continue;
    for (const port of named.portsIn(rangesOf(ports))) {
      const to = overlapOfPeers(left, right, named.on(port));
      if (to !== undefined) return { to, ports: ports.length === 0 && port === 1 ? anyPort : `port ${port}` };
    }
  }
  return undefined;
}

/** Whether the overlap is one of addresses that have no name, so that names can take it away. */
function mayBeOutside(left: PeerMatch, right: PeerMatch): boolean {
  return left.external === true || right.external === true;
}

function describe([first]: readonly RulePort[]): string {
  return first === undefined ? anyPort : `port ${isPortName(first) ? first : first[0]}`;
}
