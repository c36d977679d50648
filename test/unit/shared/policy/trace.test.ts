import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatRuleRef } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';
import { api, clock, connection, external, snapshotOf } from '../../../support/rules/policy-fixture.js';

function trace(snapshot: Snapshot, to = connection()): string[] {
  const { trace } = evaluate(snapshot, to, clock, { trace: true });
  return trace.map(
    ({ stage, rule, outcome, detail }) => `${stage} ${rule === null ? '-' : formatRuleRef(rule)} ${outcome}: ${detail}`,
  );
}

describe('the trace', () => {
  it('is empty unless it is asked for', () => {
    assert.deepEqual(evaluate(snapshotOf({ rules: [{}] }), connection(), clock).trace, []);
  });

  it('has a step for each stage when nothing matches', () => {
    assert.deepEqual(trace(snapshotOf({})), [
      'platform - no match: there is no rule in the platform tier',
      'team - no match: there is no rule in the team tier',
      'authorization - no match: no AuthorizationPolicy selects destination billing/db',
      'networkPolicy - no match: no NetworkPolicy isolates source billing/api for egress or destination billing/db for ingress',
      'baseline - no match: there is no rule in the baseline tier',
      'default Mesh/default deny: no rule decides, and defaultAction of the mesh is deny',
    ]);
  });

  it('ends with the rule that decides, and says why it matched', () => {
    const snapshot = snapshotOf({
      rules: [
        { action: 'deny', mode: 'audit', ports: [[5432, 5432]] },
        {
          from: [{ serviceAccounts: ['x/y'] }, { namespaces: ['billing'], segment: 'batch' }],
          to: [{ labels: { app: 'db' } }],
        },
        {},
      ],
    });
    assert.deepEqual(trace(snapshot).slice(1), [
      'team SegmentationRule/r0 audit: audited only, would deny: any source; any destination; port 5432 is in 5432',
      'team SegmentationRule/r1 allow: source billing/api is in segment batch; destination billing/db is labelled app=db; any port',
    ]);
  });

  it('says which audited rule keeps others from being counted', () => {
    const audit = { mode: 'audit' } as const;
    const snapshot = snapshotOf({ rules: [audit, { ...audit, action: 'deny' }], mesh: { defaultAction: 'audit' } });
    const steps = trace(snapshot).filter((step) => step.includes('audited'));
    assert.deepEqual(steps, [
      'team SegmentationRule/r0 audit: audited only, would allow: any source; any destination; any port',
      'team SegmentationRule/r1 no match: audited only, would deny but is behind SegmentationRule/r0, which is audited too and would decide first: any source; any destination; any port',
      'default Mesh/default allow: no rule decides, and defaultAction of the mesh is audit, which is not counted because audited SegmentationRule/r0 would allow',
    ]);
  });

  it('names the first part that fails of the five nearest rules', () => {
    const far = { from: [{ namespaces: ['x'] }], to: [{ namespaces: ['y'] }], ports: [[1, 1]] as const };
    const snapshot = snapshotOf({
      rules: [
        ...Array.from({ length: 6 }, () => far),
        { from: [{ serviceAccounts: ['shop/web'] }, { segment: 'batch', nodes: ['z'] }] },
        { to: [{ cidrs: ['10.0.0.0/8'], exceptCidrs: ['10.1.0.0/16'] }] },
        {
          ports: [
            [80, 80],
            [8000, 8100],
          ],
        },
      ],
    });
    const steps = trace(snapshot).filter((step) => step.startsWith('team'));
    assert.deepEqual(steps, [
      'team SegmentationRule/r6 no match: source billing/api is not any of: service account shop/web; in segment batch',
      'team SegmentationRule/r7 no match: destination billing/db is not in 10.0.0.0/8, not in 10.1.0.0/16',
      'team SegmentationRule/r8 no match: port 5432 is not in 80, 8000-8100',
      'team SegmentationRule/r0 no match: source billing/api is not in namespace x',
      'team SegmentationRule/r1 no match: source billing/api is not in namespace x',
    ]);
  });

  it('explains AuthorizationPolicies', () => {
    const snapshot = snapshotOf({
      policies: [
        { rules: [{ from: [{ namespaces: ['shop'] }], to: [] }] },
        { rules: [{ from: [], to: [{ ports: [80] }] }] },
        { rules: [] },
      ],
    });
    assert.deepEqual(trace(snapshot).slice(2), [
      'authorization AuthorizationPolicy/billing/p0 no match: source billing/api with principal mesh.test/ns/billing/sa/api matches no `from`',
      'authorization AuthorizationPolicy/billing/p1 no match: port 5432 is in no `to` of a rule whose `from` matches',
      'authorization AuthorizationPolicy/billing/p2 no match: this ALLOW policy has no rules, so it matches nothing',
      'authorization AuthorizationPolicy/billing/p0 deny: ALLOW policies select destination billing/db and none of them allows this connection',
    ]);
  });

  it('names the rule of a policy that matches', () => {
    const snapshot = snapshotOf({
      policies: [
        {
          action: 'DENY',
          rules: [
            { from: [], to: [{ ports: [1] }] },
            { from: [], to: [] },
          ],
        },
      ],
    });
    assert.equal(
      trace(snapshot).at(-1),
      'authorization AuthorizationPolicy/billing/p0 deny: rules[1] matches source billing/api and port 5432',
    );
  });

  it('says when the source proved nothing', () => {
    const snapshot = snapshotOf({ rules: [{ from: [{ namespaces: ['billing'] }] }] });
    assert.match(
      trace(snapshot, connection({ source: { ...api, identity: null } }))[1] ?? '',
      /source 198\.18\.0\.1 \(the address of billing\/api, which proved no identity\) is not in namespace billing/,
    );
    assert.match(
      trace(snapshot, connection({ source: external('203.0.113.7') }))[1] ?? '',
      /source 203\.0\.113\.7 is not/,
    );
  });
});
