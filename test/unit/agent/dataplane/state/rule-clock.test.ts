import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { RuleClock } from '../../../../../agent/dataplane/state/rule-clock.js';
import { plainRule, plainSnapshot, type CompiledRule, type Snapshot } from '../../../../../shared/policy/snapshot.js';

const startMs = 1_800_000_000_000;

function snapshotWith(init: Partial<CompiledRule>): Snapshot {
  const rule: CompiledRule = {
    ...plainRule,
    name: 'a',
    tier: 'team',
    priority: 1,
    action: 'allow',
    mode: 'enforce',
    from: [],
    to: [],
    ports: [],
    ...init,
  };
  return {
    ...plainSnapshot,
    revision: 1,
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: 'test',
    trustDomain: 'culvert.test',
    mesh: { defaultAction: 'deny', outbound: 'deny', mtls: 'STRICT', rootNamespace: 'root' },
    rules: [rule],
    authorizationPolicies: [],
  };
}

/** A clock of rules whose timers and time the test moves; `jump` moves the time alone. */
function startClock(t: TestContext): {
  clock: RuleClock;
  changes: number[];
  pass: (ms: number) => void;
  jump: (ms: number) => void;
} {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let nowMs = startMs;
  const changes: number[] = [];
  const clock = new RuleClock({ clock: { nowMs: () => nowMs }, onChange: () => changes.push(nowMs - startMs) });
  return {
    clock,
    changes,
    pass: (ms) => {
      nowMs += ms;
      t.mock.timers.tick(ms);
    },
    jump: (ms) => (nowMs += ms),
  };
}

test('connections are judged again when a rule begins and when it ends, once each', (t) => {
  const { clock, changes, pass } = startClock(t);
  clock.use(snapshotWith({ validFromMs: startMs + 3000, expiresAtMs: startMs + 5000 }));
  pass(2999);
  assert.deepEqual(changes, []);
  pass(1);
  assert.deepEqual(changes, [3000]);
  pass(2000);
  assert.deepEqual(changes, [3000, 5000]);
  pass(600_000);
  assert.deepEqual(changes, [3000, 5000]);
});

test('a clock that jumps ahead or back is noticed within a minute', (t) => {
  const { clock, changes, pass, jump } = startClock(t);
  clock.use(snapshotWith({ expiresAtMs: startMs + 86_400_000 }));
  jump(90_000_000);
  pass(60_000);
  assert.deepEqual(changes.length, 1);
  jump(-90_000_000);
  pass(60_000);
  assert.deepEqual(changes.length, 2);
});

test('a rule far ahead in time costs a look a minute, and rules without times none', (t) => {
  const { clock, changes, pass } = startClock(t);
  clock.use(snapshotWith({ expiresAtMs: startMs + 400 * 86_400_000 }));
  for (let minute = 0; minute < 10; minute++) pass(60_000);
  assert.deepEqual(changes, []);
  clock.use(snapshotWith({}));
  pass(600_000);
  clock.stop();
  assert.deepEqual(changes, []);
});
