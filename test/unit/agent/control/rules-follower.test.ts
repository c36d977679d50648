import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RulesFollower, type RulesAlarm } from '../../../../agent/control/followers/rules-follower.js';
import type { Bucket } from '../../../../shared/bus/bucket.js';
import { rulesPointerKey } from '../../../../shared/bus/subjects.js';
import { CulvertError } from '../../../../shared/errors.js';
import { createLog } from '../../../../shared/log.js';
import { plainSnapshot, type Snapshot } from '../../../../shared/policy/snapshot.js';
import { pointerTo, snapshotKey } from '../../../../shared/wire/rules-pointer.js';

const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });

function snapshotOf(revision: number): Snapshot {
  return {
    revision,
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: 'test',
    trustDomain: 'mesh.test',
    mesh: { defaultAction: 'deny', outbound: 'deny', mtls: 'STRICT', rootNamespace: 'culvert-system' },
    rules: [],
    authorizationPolicies: [],
    ...plainSnapshot,
  };
}

/** A bucket of which the follower only reads, whose snapshots are their own seals. */
class Store {
  readonly #values = new Map<string, Uint8Array>();
  #revision = 0;

  publish(snapshot: Snapshot): void {
    const sealed = Buffer.from(JSON.stringify(snapshot));
    this.#values.set(snapshotKey(snapshot.revision), sealed);
    this.#values.set(rulesPointerKey, Buffer.from(JSON.stringify(pointerTo(snapshot.revision, sealed))));
    this.#revision++;
  }

  get bucket(): Bucket {
    const get = async (key: string): Promise<object | undefined> => {
      const value = this.#values.get(key);
      return value === undefined ? undefined : { key, value, revision: this.#revision };
    };
    return { get } as unknown as Bucket;
  }
}

test('rules that cannot be put in force are an alarm, and the next revision is taken', async () => {
  const store = new Store();
  const inForce: number[] = [];
  const alarms: RulesAlarm[] = [];
  const follower = new RulesFollower({
    bucket: store.bucket,
    trustDomain: 'mesh.test',
    open: (sealed) => JSON.parse(Buffer.from(sealed).toString('utf8')) as Snapshot,
    applied: null,
    leastRevision: () => 0,
    log,
    onRules: ({ snapshot }) => {
      if (snapshot.revision === 2)
        throw new CulvertError({ code: 'SNAPSHOT_INVALID', message: 'no CIDR: 10.0.0.0/99' });
      inForce.push(snapshot.revision);
    },
    onAlarm: (kind) => alarms.push(kind),
  });
  store.publish(snapshotOf(1));
  assert.equal(await follower.check(), 'current');
  store.publish(snapshotOf(2));
  assert.equal(await follower.check(), 'unusable');
  assert.equal(await follower.check(), 'unusable');
  assert.match(follower.alarm ?? '', /revision 2 .* no CIDR/);
  assert.deepEqual(alarms, ['unusable'], 'told once');
  store.publish(snapshotOf(3));
  assert.equal(await follower.check(), 'current');
  assert.deepEqual(inForce, [1, 3]);
  assert.equal(follower.alarm, null);
});

test('an agent without rules refuses rules that are older than what the controller has signed', async () => {
  const store = new Store();
  const inForce: number[] = [];
  const alarms: RulesAlarm[] = [];
  let least = 3;
  const follower = new RulesFollower({
    bucket: store.bucket,
    trustDomain: 'mesh.test',
    open: (sealed) => JSON.parse(Buffer.from(sealed).toString('utf8')) as Snapshot,
    applied: null,
    leastRevision: () => least,
    log,
    onRules: ({ snapshot }) => inForce.push(snapshot.revision),
    onAlarm: (kind) => alarms.push(kind),
  });
  store.publish(snapshotOf(2));
  assert.equal(await follower.check(), 'backwards');
  assert.match(follower.alarm ?? '', /the store says 2, .* revision 3/);
  store.publish(snapshotOf(3));
  assert.equal(await follower.check(), 'current');
  least = 7;
  store.publish(snapshotOf(5));
  assert.equal(await follower.check(), 'current', 'newer than those in force, although not the newest');
  assert.deepEqual([inForce, alarms], [[3, 5], ['backwards']]);
});
