import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RulesAge, type Enforced, type RulesAgeAlarm } from '../../../../agent/control/followers/rules-age.js';
import { createLog } from '../../../../shared/log.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import {
  openNewestStatement,
  sealNewestStatement,
  type NewestStatement,
} from '../../../../shared/wire/newest-statement.js';

const minute = 60_000;
const hour = 60 * minute;
const startMs = Date.parse('2026-01-01T00:00:00Z');
const key = generateSigningKey();
const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });

/** An agent whose clocks a test sets. `wallMs` may be wrong; `monotonicMs` never is. */
class Host {
  wallMs = startMs;
  monotonicMs = 5000;
  enforced: Enforced = { revision: 7, registrySequence: 70 };
  readonly alarms: RulesAgeAlarm[] = [];
  readonly age: RulesAge;

  constructor({ refuses = false } = {}) {
    this.age = new RulesAge({
      open: (bytes) => openNewestStatement({ bytes, publicKeysPem: [key.publicKey] }),
      enforced: () => this.enforced,
      maxAgeMs: hour,
      refuses,
      nowMs: () => this.wallMs,
      monotonicMs: () => this.monotonicMs,
      log,
      onAlarm: (kind) => this.alarms.push(kind),
    });
  }

  pass(ms: number): void {
    this.wallMs += ms;
    this.monotonicMs += ms;
  }
}

function sealed(change: Partial<NewestStatement> = {}, signer = key): Uint8Array {
  const statement = { atMs: startMs, revision: 7, registrySequence: 70, ...change };
  return sealNewestStatement({ statement, privateKeyPem: signer.privateKey });
}

test('the age counts from the last statement that what is in force fulfils, and ends with the next', () => {
  const host = new Host();
  host.age.take(sealed(), 'nats');
  assert.equal(host.age.ageMs, 0);
  host.pass(59 * minute);
  assert.equal(host.age.check(), null);
  assert.deepEqual(host.alarms, []);
  host.pass(2 * minute);
  host.age.check();
  host.pass(minute);
  host.age.check();
  assert.match(host.age.problem ?? '', /not confirmed for 62 minutes that the rules here are the newest/);
  assert.deepEqual(host.alarms, ['old'], 'told once');
  host.age.take(sealed({ atMs: host.wallMs }), 'nats');
  assert.deepEqual([host.age.problem, host.age.ageMs], [null, 0]);
});

test('a replayed statement is as old as it says, to an agent that never had one and to one that had', () => {
  const fresh = new Host();
  fresh.enforced = { revision: null, registrySequence: null };
  fresh.age.take(sealed({ atMs: startMs - 3 * hour, revision: 2 }), 'nats');
  fresh.enforced = { revision: 2, registrySequence: 70 };
  assert.equal(fresh.age.ageMs, 3 * hour);
  assert.match(fresh.age.problem ?? '', /for 3 hours|for 180 minutes/);

  const known = new Host();
  known.age.take(sealed(), 'nats');
  known.pass(30 * minute);
  known.age.take(sealed({ atMs: startMs - minute }), 'nats');
  assert.equal(known.age.ageMs, 30 * minute);
});

test('newer rules that do not come are an alarm after two minutes, and the age goes on meanwhile', () => {
  const host = new Host();
  host.age.take(sealed(), 'nats');
  host.pass(minute);
  host.age.take(sealed({ atMs: host.wallMs, revision: 8 }), 'nats');
  assert.equal(host.age.problem, null);
  host.pass(3 * minute);
  host.age.take(sealed({ atMs: host.wallMs, revision: 8 }), 'nats');
  assert.match(
    host.age.problem ?? '',
    /revision 8 and registry 70 are the newest, and here are revision 7 and registry 70/,
  );
  assert.equal(host.age.ageMs, 4 * minute);
  host.enforced = { revision: 8, registrySequence: 70 };
  assert.deepEqual([host.age.problem, host.age.ageMs], [null, 0]);
  host.age.take(sealed({ atMs: host.wallMs + 1, revision: 8, registrySequence: 71 }), 'nats');
  host.pass(3 * minute);
  assert.match(host.age.problem ?? '', /registry 71/);
});

test('a host clock that is set back hides nothing, and one that is set right again ends a false alarm', () => {
  const host = new Host();
  host.age.take(sealed(), 'nats');
  host.wallMs -= 24 * hour;
  host.pass(2 * hour);
  assert.match(host.age.problem ?? '', /not confirmed for 2 hours/);

  const ahead = new Host();
  ahead.age.take(sealed(), 'nats');
  ahead.wallMs += 24 * hour;
  assert.notEqual(ahead.age.problem, null);
  ahead.wallMs -= 24 * hour;
  assert.equal(ahead.age.problem, null);
});

test('statements of a controller whose clock was ahead give way to those of the right clock', () => {
  const host = new Host();
  host.age.take(sealed({ atMs: startMs + 5 * hour }), 'nats');
  assert.equal(host.age.ageMs, 0);
  host.pass(minute);
  host.age.take(sealed({ atMs: host.wallMs }), 'nats');
  host.pass(30 * minute);
  assert.equal(host.age.ageMs, 30 * minute);
});

test('what another key signed, or is no statement, is an alarm and changes nothing', () => {
  const host = new Host();
  host.age.take(sealed(), 'nats');
  host.pass(minute);
  for (let time = 0; time < 3; time++) host.age.take(sealed({ atMs: host.wallMs }, generateSigningKey()), 'nats');
  assert.deepEqual(host.alarms, ['unusable'], 'told once');
  host.age.take(Buffer.from('{}'), 'nats');
  assert.deepEqual(host.alarms, ['unusable', 'unusable']);
  assert.equal(host.age.ageMs, minute);
});

test('the newest statement says whether the installation is being taken away', () => {
  const host = new Host();
  const says = (sinceMs = host.monotonicMs): boolean => host.age.isUninstalled(sinceMs);
  assert.equal(says(), false);
  host.age.take(sealed({ atMs: startMs + 2, isUninstalled: true }), 'nats');
  assert.equal(says(), true);
  host.age.take(sealed({ atMs: startMs + 1 }), 'nats');
  assert.equal(says(), false, 'what is shown is not the newest');
  host.age.take(sealed({ atMs: startMs + 2, isUninstalled: true }), 'nats');
  assert.equal(says(), true, 'it is shown again');
  // It was installed again.
  host.age.take(sealed({ atMs: startMs + 3 }), 'nats');
  assert.equal(says(), false);
  host.age.take(sealed({ atMs: startMs + 2, isUninstalled: true }), 'nats');
  assert.equal(says(), false, 'an older one is shown');
});

test('that it is being taken away counts only while the connection shows it, and not for long', () => {
  const gone = sealed({ isUninstalled: true });
  const restarted = new Host();
  restarted.age.take(gone, 'kept');
  assert.equal(restarted.age.isUninstalled(0), false, 'from the disk');
  restarted.age.take(gone, 'nats');
  assert.equal(restarted.age.isUninstalled(restarted.monotonicMs), true);

  // It missed that the installation came back, and then the controller was away.
  restarted.pass(1);
  assert.equal(restarted.age.isUninstalled(restarted.monotonicMs), false, 'not shown since');

  // The store still has what the controller said before it went.
  for (const clock of ['right', 'still', 'ahead', 'behind']) {
    const host = new Host();
    host.age.take(gone, 'nats');
    host.pass(59_000);
    host.age.take(gone, 'nats');
    assert.equal(host.age.isUninstalled(host.monotonicMs), true);
    host.pass(2000);
    if (clock === 'still') host.wallMs = startMs;
    if (clock === 'ahead') host.wallMs += hour;
    if (clock === 'behind') host.wallMs -= hour;
    host.age.take(gone, 'nats');
    assert.equal(host.age.isUninstalled(host.monotonicMs), false, clock);
  }

  const late = new Host();
  late.pass(61_000);
  late.age.take(gone, 'nats');
  assert.equal(late.age.isUninstalled(late.monotonicMs), false, 'it was old when it came');
});

test('an agent that has nothing is up to date in a mesh that has nothing', () => {
  const host = new Host();
  host.enforced = { revision: null, registrySequence: null };
  host.age.take(sealed({ revision: 0, registrySequence: 0 }), 'nats');
  host.pass(3 * minute);
  assert.deepEqual([host.age.problem, host.age.ageMs], [null, 3 * minute]);
});

test('only where it is asked for are connections refused past the age, also without any statement', () => {
  for (const refuses of [false, true]) {
    const old = new Host({ refuses });
    old.age.take(sealed(), 'nats');
    assert.equal(old.age.check(), null);
    old.pass(2 * hour);
    assert.equal(old.age.check() !== null, refuses);
    assert.equal(old.age.isRefusing, refuses);

    const silent = new Host({ refuses });
    assert.equal(silent.age.ageMs, null);
    silent.pass(59 * minute);
    assert.equal(silent.age.check(), null);
    silent.pass(2 * minute);
    assert.equal(silent.age.check() !== null, refuses);
    assert.equal(silent.age.problem === null, !refuses, 'a controller of the version before is no alarm');
  }
});

test('what was known is known after a restart, and what is in force is confirmed once the workers have it', () => {
  const before = new Host();
  before.age.take(sealed(), 'nats');
  before.pass(minute);
  before.age.take(sealed({ atMs: before.wallMs, revision: 8 }), 'nats');
  const after = new Host();
  after.wallMs = before.wallMs + 10 * minute;
  after.enforced = { revision: null, registrySequence: null };
  for (const statement of before.age.statements) after.age.take(statement, 'kept');
  assert.equal(after.age.leastRevision, 8);
  after.enforced = { revision: 7, registrySequence: 70 };
  assert.equal(after.age.ageMs, 11 * minute);
  after.enforced = { revision: 8, registrySequence: 70 };
  assert.equal(after.age.ageMs, 10 * minute);
});

test('on a host whose clock is behind, two statements that are shown in turn do not hide the age', () => {
  for (const behindMs of [10 * minute, 5 * hour]) {
    const host = new Host({ refuses: true });
    host.wallMs -= behindMs;
    // The second is from the future there; the first only where the clock is not far behind.
    const shown = [sealed({ atMs: startMs - 5 * hour - minute }), sealed(), sealed({ atMs: startMs - minute })];
    for (let passedMs = 0; passedMs < 3 * hour; passedMs += minute) {
      for (const each of shown) host.age.take(each, 'nats');
      host.pass(minute);
      // The wall clock does not move.
      host.wallMs -= minute;
    }
    assert.ok((host.age.ageMs ?? 0) > 2 * hour, `${behindMs} ms behind: ${host.age.ageMs} ms`);
    assert.match(host.age.check() ?? '', /has not confirmed/);
  }
});
