import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { GracePeriod } from '../../../../../agent/dataplane/flow/grace-period.js';
import type { Decision } from '../../../../../shared/policy/connection.js';
import type { OnChange } from '../../../../../shared/policy/snapshot.js';

const longMs = 3_600_000;

function denial(rule: string, onChange: OnChange): Decision {
  const ref = { kind: 'SegmentationRule', name: rule, tier: 'team' } as const;
  return { verdict: 'deny', reason: 'POLICY_DENY', rule: ref, onChange, audited: [], trace: [] };
}

/** A grace and what tells when it has ended. */
function startGracePeriod(counts = { draining: 0, kept: 0 }): {
  grace: GracePeriod;
  ended: EventTarget;
  endings: string[];
} {
  const ended = new EventTarget();
  const endings: string[] = [];
  const grace = new GracePeriod({
    counts,
    onExpired: (decision, revision) => {
      endings.push(`${decision.rule.name} ${revision}`);
      ended.dispatchEvent(new Event('end'));
    },
  });
  return { grace, ended, endings };
}

test('a rule that terminates gives no time', () => {
  const { grace } = startGracePeriod();
  assert.equal(grace.grant(denial('a', { kind: 'terminate' }), 1), false);
});

test('a rule that keeps gives any time, until the connection is allowed again', () => {
  const { grace } = startGracePeriod();
  assert.equal(grace.grant(denial('a', { kind: 'keep' }), 1), true);
  assert.deepEqual([grace.kind, grace.rule?.name], ['kept', 'a']);
  grace.lift();
  assert.deepEqual([grace.kind, grace.rule], [null, null]);
});

test('each period is counted once, by the kind that it has now', () => {
  const counts = { draining: 0, kept: 0 };
  const [first, second] = [startGracePeriod(counts).grace, startGracePeriod(counts).grace];
  first.grant(denial('a', { kind: 'keep' }), 1);
  first.grant(denial('a', { kind: 'keep' }), 2);
  second.grant(denial('a', { kind: 'drain', graceMs: longMs }), 2);
  assert.deepEqual(counts, { draining: 1, kept: 1 });
  first.grant(denial('b', { kind: 'drain', graceMs: longMs }), 3);
  assert.deepEqual(counts, { draining: 2, kept: 0 });
  for (const grace of [first, second, first]) grace.lift();
  assert.deepEqual(counts, { draining: 0, kept: 0 });
});

test('a drain ends with the rule and the revision that denied last', async () => {
  const { grace, ended, endings } = startGracePeriod();
  const startedMs = performance.now();
  assert.equal(grace.grant(denial('a', { kind: 'drain', graceMs: 60 }), 1), true);
  assert.equal(grace.grant(denial('a', { kind: 'drain', graceMs: 60 }), 2), true);
  await once(ended, 'end');
  assert.deepEqual(endings, ['a 2']);
  assert.ok(performance.now() - startedMs >= 60);
});

test('a drain that began is not prolonged by another rule, and shortened by one with less grace', async () => {
  const { grace, ended, endings } = startGracePeriod();
  assert.equal(grace.grant(denial('a', { kind: 'drain', graceMs: 40 }), 1), true);
  assert.equal(grace.grant(denial('b', { kind: 'drain', graceMs: longMs }), 2), true);
  await once(ended, 'end');
  assert.deepEqual(endings, ['b 2']);
  const other = startGracePeriod();
  assert.equal(other.grace.grant(denial('a', { kind: 'drain', graceMs: longMs }), 1), true);
  assert.equal(other.grace.grant(denial('b', { kind: 'drain', graceMs: 20 }), 2), true);
  await once(other.ended, 'end');
});

test('a drain whose rule now says keep does not end', () => {
  const { grace, endings } = startGracePeriod();
  assert.equal(grace.grant(denial('a', { kind: 'drain', graceMs: longMs }), 1), true);
  assert.equal(grace.grant(denial('a', { kind: 'keep' }), 2), true);
  assert.deepEqual([grace.kind, endings], ['kept', []]);
});

test('a grace longer than a timer can run does not end at once', async () => {
  const { grace, endings } = startGracePeriod();
  assert.equal(grace.grant(denial('a', { kind: 'drain', graceMs: 90 * 86_400_000 }), 1), true);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual([grace.kind, endings], ['draining', []]);
  grace.lift();
});
