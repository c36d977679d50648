import type { Decision, RuleRef } from '../../../shared/policy/connection.js';

/**
 * What the agent of a STRICT destination answers to plaintext, before any rule is asked. `demandedBy`: what makes it
 * STRICT, the mesh or a PeerAuthentication.
 */
export function strictRefusal(demandedBy: RuleRef): Decision {
  const where = demandedBy.kind === 'Mesh' ? 'the mesh is STRICT' : 'the destination is STRICT';
  const detail = `${where}, and the source has no agent that proves its identity`;
  return {
    verdict: 'deny',
    reason: 'SOURCE_UNKNOWN',
    rule: demandedBy,
    onChange: { kind: 'terminate' },
    audited: [],
    trace: [{ stage: 'default', rule: demandedBy, outcome: 'deny', detail }],
  };
}
