import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { predict } from '../../../../controller/analysis/pairs/predict.js';
import type { MeshParty } from '../../../../controller/analysis/pairs/mesh-party.js';
import type { Party } from '../../../../shared/policy/connection.js';
import { areOneWorkload } from '../../../../shared/policy/own-traffic.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { clock, connection, db, external, meshed, snapshotOf } from '../../../support/rules/policy-fixture.js';

/** A pod cannot block access to itself (Kubernetes, Network Policies), and no rule of any other kind can. */

const closed = snapshotOf({
  rules: [{ tier: 'platform', action: 'deny' }],
  policies: [{ action: 'DENY', rules: [{ from: [], to: [] }] }],
  mesh: { mtls: 'STRICT' },
  rest: { networkPolicies: [{ namespace: 'billing', name: 'n', podSelector: [], ingress: [], egress: [] }] },
});

describe('what a workload sends to itself', () => {
  it('is allowed, whatever the rules say', () => {
    const own = connection({ source: db, destination: db, isOwn: true });
    const decision = evaluate(closed, own, clock, { trace: true });
    assert.deepEqual([decision.verdict, decision.reason, decision.audited], ['allow', 'OK', []]);
    assert.match(decision.trace.map(({ detail }) => detail).join(), /^a workload always reaches itself/);
  });

  it('is predicted with and without an agent, and from one of its addresses to another', () => {
    const end = (party: Party, isMeshed: boolean): MeshParty => ({ name: 'billing/db', party, isMeshed });
    const v6 = { ...db, ip: meshed('billing/db', 'fd00::2').ip };
    for (const isMeshed of [true, false]) {
      for (const destination of [db, v6]) {
        const pair = { source: end(db, isMeshed), destination: end(destination, isMeshed), port: 1 };
        assert.equal(predict(closed, pair, clock).verdict, 'allow');
      }
    }
  });

  it('is not what another one sends to it', () => {
    assert.ok(db.workload);
    assert.equal(areOneWorkload(db, { ...db, workload: { ...db.workload, name: 'db-2' } }), false);
    assert.equal(areOneWorkload(db, meshed('shop/db', '198.18.1.2')), false);
    assert.equal(areOneWorkload(external('198.18.0.2'), external('198.18.0.2')), false);
    // What arrives in plaintext with the address of the workload has no such mark, and proves nothing.
    assert.equal(
      evaluate(closed, connection({ source: { ...db, identity: null }, destination: db }), clock).verdict,
      'deny',
    );
  });
});
