import { CulvertError } from '../../shared/errors.js';
import type { TrustConfirmation } from './rotation-confirmations.js';

/** Whether a node may be left behind by a step, and why not. */
export type Unconfirmed = { readonly node: string; readonly why: string };

/** The nodes that do not trust a root yet: they would refuse every certificate under it, that of NATS too. */
export function notTrusting(rootHash: string, nodes: readonly TrustConfirmation[]): Unconfirmed[] {
  return nodes.flatMap(({ node, trust, lastSeenMs }) => {
    if (trust === null) return [{ node, why: unreported(lastSeenMs) }];
    if (trust.trusts.includes(rootHash)) return [];
    return [{ node, why: `does not trust the new root${asOf(lastSeenMs)}` }];
  });
}

/** The nodes with certificates under another root than this one: nothing would accept these once that root has gone. */
export function notProving(rootHash: string, nodes: readonly TrustConfirmation[]): Unconfirmed[] {
  return nodes.flatMap(({ node, trust, lastSeenMs }) => {
    if (trust === null) return [{ node, why: unreported(lastSeenMs) }];
    if (trust.proves.length > 0 && trust.proves.every((hash) => hash === rootHash)) return [];
    return [{ node, why: `still has certificates under another root${asOf(lastSeenMs)}` }];
  });
}

const maxNamed = 50;

/** The error that refuses a step. `before`: the command that was refused. */
export function stepUnconfirmed(init: {
  readonly step: string;
  readonly what: string;
  readonly consequence: string;
  readonly nodes: readonly Unconfirmed[];
}): CulvertError {
  const { step, what, consequence, nodes } = init;
  const named = nodes.slice(0, maxNamed).map(({ node, why }) => `\n  ${node}: ${why}`);
  const more = nodes.length > maxNamed ? `\n  and ${nodes.length - maxNamed} more` : '';
  return new CulvertError({
    code: 'CA_UNCONFIRMED',
    message: `${step} is too early: ${nodes.length} ${nodes.length === 1 ? 'node has' : 'nodes have'} not confirmed that ${what}:${named.join('')}${more}`,
    hint: `start the controller and wait until culvert ca status shows them; remove hosts that are gone with culvert node remove; --force does it all the same, and ${consequence}`,
  });
}

/** The error for a state directory whose nodes are not known. */
export function nodesUnknown(step: string): CulvertError {
  return new CulvertError({
    code: 'CA_UNCONFIRMED',
    message: `${step} is too early: no controller of this version has recorded which nodes there are and what they trust`,
    hint: 'start the controller, wait until culvert ca status shows every agent, stop it and try again; --force skips this check',
  });
}

function unreported(lastSeenMs: number | null): string {
  return lastSeenMs === null
    ? 'has sent no heartbeat since it joined'
    : `does not report what it trusts${asOf(lastSeenMs)}: upgrade culvert-agent there`;
}

function asOf(lastSeenMs: number | null): string {
  return lastSeenMs === null ? '' : ` (as of ${new Date(lastSeenMs).toISOString()})`;
}
