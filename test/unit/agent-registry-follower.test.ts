import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { RegistryFollower } from '../../agent/control/registry-follower.js';
import type { RegistryMessage } from '../../agent/dataplane/messages.js';
import type { IpAddress } from '../../shared/address.js';
import { formatSpiffeId } from '../../shared/identity.js';
import { createLog } from '../../shared/log.js';
import { generateSigningKey } from '../../shared/pki/signing-key.js';
import { groupDigests, groupOf, groupsFor } from '../../shared/wire/registry-digests.js';
import { openRegistryList, registryListKey, sealRegistryList } from '../../shared/wire/registry-list.js';
import { registryKey, type WorkloadEntry } from '../../shared/wire/registry.js';
import { signEnvelope } from '../../shared/wire/signed-envelope.js';
import { openProvenRegistryEntry, openRegistryEntry, sealRegistryEntry } from '../../shared/wire/signed.js';
import { waitUntil } from '../lab/wait-until.js';

const controllerKey = generateSigningKey();
const foreignKey = generateSigningKey();
const count = 600;

function workload(name: string, lastByte = 1): WorkloadEntry {
  return {
    kind: 'workload',
    namespace: 'shop',
    name,
    serviceAccount: 'sa',
    identity: formatSpiffeId({ trustDomain: 'mesh.test', namespace: 'shop', serviceAccount: 'sa' }),
    labels: {},
    addresses: [`198.18.10.${lastByte}` as IpAddress],
    node: null,
    netns: null,
    protocol: 'tcp',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
  };
}

const keys = Array.from({ length: count }, (_, at) => registryKey(workload(`w-${at}`)));
const key7 = keys[7] ?? '';

function seal(name: string, o: { lastByte?: number; key?: typeof controllerKey; sequence?: number } = {}): Uint8Array {
  const { privateKey: privateKeyPem } = o.key ?? controllerKey;
  return sealRegistryEntry({ entry: workload(name, o.lastByte), sequence: o.sequence ?? 5, privateKeyPem });
}

const sealed: ReadonlyMap<string, Uint8Array> = new Map(keys.map((key, at) => [key, seal(`w-${at}`)]));

function sealList(entries: ReadonlyMap<string, Uint8Array>, o: { key?: typeof controllerKey } = {}) {
  const groups = groupsFor(entries.size);
  const digests = groupDigests({ keys: entries.keys(), sealed: entries, groups }).filter((digest) => digest !== null);
  const list = { sequence: 5, entries: new Map([...entries.keys()].map((key) => [key, 5])), digests };
  const { privateKey: privateKeyPem } = o.key ?? controllerKey;
  return sealRegistryList({ list, privateKeyPem });
}

/** A follower, and how many signatures of entries it looked at. */
function newFollower() {
  const publicKeysPem = [controllerKey.publicKey];
  const seen = { signatures: 0, alarms: 0, stale: 0, messages: [] as RegistryMessage[] };
  const follower = new RegistryFollower({
    open: (key, bytes) => {
      seen.signatures += 1;
      return openRegistryEntry({ key, bytes, publicKeysPem });
    },
    openProven: (key, bytes) => openProvenRegistryEntry({ key, bytes }),
    openList: (bytes) => openRegistryList({ bytes, publicKeysPem }),
    log: createLog({ name: 'test', level: 'error', stream: { write: () => undefined } }),
    onChange: (message) => seen.messages.push(message),
    onStale: () => (seen.stale += 1),
    onAlarm: () => (seen.alarms += 1),
  });
  return { follower, seen };
}

function stored(entries: ReadonlyMap<string, Uint8Array>, list: Uint8Array) {
  return [...entries, [registryListKey, list] as const].map(([key, bytes]) => ({ key, sealed: bytes }));
}

function restored(entries: ReadonlyMap<string, Uint8Array>, list: Uint8Array) {
  const { follower, seen } = newFollower();
  follower.restore({ entries: stored(entries, list), isComplete: true });
  return { follower, seen };
}

const with7 = (bytes: Uint8Array): Map<string, Uint8Array> => new Map(sealed).set(key7, bytes);

describe('a registry from disk', () => {
  test('is proved by the digests of its signed list, without a look at the signature of each entry', () => {
    const { follower, seen } = restored(sealed, sealList(sealed));
    assert.deepEqual([follower.entries.size, follower.missing], [count, 0]);
    assert.deepEqual([seen.signatures, seen.alarms], [0, 0]);
    assert.equal(seen.messages[0]?.upserts.length, count);
  });

  test('loses an entry that somebody else wrote, and is checked one by one around it', () => {
    for (const forged of [seal('w-7', { key: foreignKey, lastByte: 66 }), seal('w-8'), Buffer.from('{}')]) {
      const { follower, seen } = restored(with7(forged), sealList(sealed));
      assert.equal(follower.entries.has(key7), false);
      assert.deepEqual([follower.entries.size, follower.missing, seen.alarms], [count - 1, 1, 1]);
      assert.ok(seen.signatures > 1 && seen.signatures < count, `${seen.signatures} signatures`);
    }
  });

  test('is believed nothing of when list and entries are of another key', () => {
    const forged = new Map(keys.map((key, at) => [key, seal(`w-${at}`, { key: foreignKey })]));
    const { follower, seen } = restored(forged, sealList(forged, { key: foreignKey }));
    assert.equal(follower.entries.size, 0);
    assert.deepEqual([seen.signatures, seen.alarms], [count, count + 1]);
  });

  test('may be newer than its list in one entry, which is then checked by its signature', () => {
    const { follower, seen } = restored(with7(seal('w-7', { sequence: 6 })), sealList(sealed));
    assert.equal(follower.entries.get(key7)?.sequence, 6);
    assert.deepEqual([follower.entries.size, seen.alarms], [count, 0]);
  });

  test('costs nothing more when NATS brings the same again', () => {
    const { follower, seen } = restored(sealed, sealList(sealed));
    for (const { key, sealed: value } of stored(sealed, sealList(sealed))) {
      follower.onEntry({ operation: 'put', key, value: new Uint8Array(value), revision: 1 });
    }
    assert.deepEqual([seen.signatures, seen.messages.length, seen.stale], [0, 1, 0]);
    follower.close();
  });
});

describe('a registry that comes from NATS after its list', () => {
  const deliver = (
    follower: RegistryFollower,
    all: readonly { readonly key: string; readonly sealed: Uint8Array }[],
  ) => {
    const list = { operation: 'put', key: registryListKey, value: sealList(sealed), revision: 1 } as const;
    follower.onEntry(list);
    for (const { key, sealed: value } of all) follower.onEntry({ operation: 'put', key, value, revision: 2 });
  };
  const all = [...sealed].map(([key, bytes]) => ({ key, sealed: bytes }));

  test('is proved in groups, without a look at the signature of each entry', async () => {
    const { follower, seen } = newFollower();
    deliver(follower, all);
    await once('the whole', () => follower.isComplete);
    assert.deepEqual([follower.entries.size, seen.signatures, seen.alarms], [count, 0, 0]);
    assert.deepEqual([seen.messages.length, seen.messages[0]?.upserts.length], [1, count]);
    follower.close();
  });

  test('is checked one by one where somebody else wrote or something does not come', async () => {
    const { follower, seen } = newFollower();
    const forged = { key: key7, sealed: seal('w-7', { key: foreignKey, lastByte: 66 }) };
    const other = keys.find((key) => groupOf(key, groupsFor(count)) !== groupOf(key7, groupsFor(count)));
    deliver(
      follower,
      all.filter(({ key }) => key !== other).map((entry) => (entry.key === key7 ? forged : entry)),
    );
    await once('all that can be believed', () => follower.entries.size === count - 2);
    assert.deepEqual([follower.isComplete, follower.missing, seen.alarms], [false, 2, 1]);
    for (const key of [key7, other ?? '']) {
      const value = sealed.get(key) ?? assert.fail(key);
      follower.onEntry({ operation: 'put', key, value, revision: 3 });
    }
    await once('the whole', () => follower.isComplete);
    assert.equal(follower.entries.size, count);
    assert.ok(seen.signatures < count, `${seen.signatures} signatures`);
    follower.close();
  });

  test('loses neither of two that claim the same key', async () => {
    const { follower, seen } = newFollower();
    const forged = { key: key7, sealed: seal('w-7', { key: foreignKey }) };
    deliver(follower, [forged, ...all]);
    await once('the whole', () => follower.isComplete);
    assert.deepEqual([follower.entries.size, seen.alarms], [count, 1]);
    follower.close();
  });
});

async function once(what: string, isSo: () => boolean): Promise<void> {
  await waitUntil(what, () => isSo() || undefined, 10_000);
}

test('a list as older controllers write it is read', () => {
  const payload = gzipSync(JSON.stringify(Object.fromEntries(keys.map((key) => [key, 5]))));
  const envelope = signEnvelope({ context: 'culvert.registry-list.v1', about: '5' }, payload, controllerKey.privateKey);
  const { follower, seen } = restored(sealed, Buffer.from(JSON.stringify({ ...envelope, sequence: 5 })));
  assert.deepEqual([follower.entries.size, follower.missing, seen.signatures, seen.alarms], [count, 0, count, 0]);
});
