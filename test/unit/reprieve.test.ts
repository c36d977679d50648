import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Reprieve } from '../../agent/dataplane/flow/reprieve.js';
import type { Decision } from '../../shared/policy/connection.js';
import type { OnChange } from '../../shared/policy/snapshot.js';

const longMs = 3_600_000;

function denial(rule: string, onChange: OnChange): Decision {
  const ref = { kind: 'SegmentationRule', name: rule, tier: 'team' } as const;
  return { verdict: 'deny', reason: 'POLICY_DENY', rule: ref, onChange, audited: [], trace: [] };
}

/** A reprieve and what tells when it has ended. */
function startReprieve(): { reprieve: Reprieve; ended: EventTarget; endings: string[] } {
  const ended = new EventTarget();
  const endings: string[] = [];
  const reprieve = new Reprieve({
    onExpired: (decision, revision) => {
      endings.push(`${decision.rule.name} ${revision}`);
      ended.dispatchEvent(new Event('end'));
    },
  });
  return { reprieve, ended, endings };
}

test('a rule that terminates gives no time', () => {
  const { reprieve } = startReprieve();
  assert.equal(reprieve.grant(denial('a', { kind: 'terminate' }), 1), false);
});

test('a rule that keeps gives any time, until the connection is allowed again', () => {
  const { reprieve } = startReprieve();
  assert.equal(reprieve.grant(denial('a', { kind: 'keep' }), 1), true);
  assert.deepEqual([reprieve.kind, reprieve.rule], ['kept', 'SegmentationRule/a']);
  reprieve.lift();
  assert.deepEqual([reprieve.kind, reprieve.rule], [null, '']);
});

test('a drain ends with the rule and the revision that denied last', async () => {
  const { reprieve, ended, endings } = startReprieve();
  const startedMs = performance.now();
  assert.equal(reprieve.grant(denial('a', { kind: 'drain', graceMs: 60 }), 1), true);
  assert.equal(reprieve.grant(denial('a', { kind: 'drain', graceMs: 60 }), 2), true);
  await once(ended, 'end');
  assert.deepEqual(endings, ['a 2']);
  assert.ok(performance.now() - startedMs >= 60);
});

test('a drain that began is not prolonged by another rule, and shortened by one with less grace', async () => {
  const { reprieve, ended, endings } = startReprieve();
  assert.equal(reprieve.grant(denial('a', { kind: 'drain', graceMs: 40 }), 1), true);
  assert.equal(reprieve.grant(denial('b', { kind: 'drain', graceMs: longMs }), 2), true);
  await once(ended, 'end');
  assert.deepEqual(endings, ['b 2']);
  const other = startReprieve();
  assert.equal(other.reprieve.grant(denial('a', { kind: 'drain', graceMs: longMs }), 1), true);
  assert.equal(other.reprieve.grant(denial('b', { kind: 'drain', graceMs: 20 }), 2), true);
  await once(other.ended, 'end');
});

test('a drain whose rule now says keep does not end', () => {
  const { reprieve, endings } = startReprieve();
  assert.equal(reprieve.grant(denial('a', { kind: 'drain', graceMs: longMs }), 1), true);
  assert.equal(reprieve.grant(denial('a', { kind: 'keep' }), 2), true);
  assert.deepEqual([reprieve.kind, endings], ['kept', []]);
});

test('a grace longer than a timer can run does not end at once', async () => {
  const { reprieve, endings } = startReprieve();
  assert.equal(reprieve.grant(denial('a', { kind: 'drain', graceMs: 90 * 86_400_000 }), 1), true);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual([reprieve.kind, endings], ['draining', []]);
  reprieve.lift();
});
