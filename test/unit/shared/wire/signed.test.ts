import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { IpAddress } from '../../../../shared/address.js';
import { formatSpiffeId } from '../../../../shared/identity.js';
import { generateSigningKey, signBytes, verifyBytes } from '../../../../shared/pki/signing-key.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';
import type { WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import {
  maxSnapshotBytes,
  maxSnapshotTextBytes,
  openRegistryEntry,
  openSnapshot,
  sealRegistryEntry,
  sealSnapshot,
  snapshotReader,
} from '../../../../shared/wire/signed.js';
import { writeSnapshot } from '../../../../shared/wire/snapshot-text.js';
import { nodeNamed } from '../../../support/routing/names.js';

const key = generateSigningKey();
const other = generateSigningKey();

const snapshot: Snapshot = {
  revision: 7,
  createdAt: '2026-06-01T00:00:00.000Z',
  createdBy: 'admin',
  trustDomain: 'mesh.test',
  mesh: { defaultAction: 'deny', outbound: 'audit', mtls: 'STRICT', rootNamespace: 'culvert' },
  rules: [
    {
      name: 'db-only-from-billing',
      tier: 'team',
      priority: 200,
      action: 'allow',
      mode: 'enforce',
      from: [{ serviceAccounts: ['billing/api'] }],
      to: [{ labels: { app: 'db' }, segment: 'databases' }],
      ports: [[5432, 5432]],
      onChange: { kind: 'drain', graceMs: 30_000 },
      rollout: 50,
      validFromMs: 1_700_000_000_000,
      expiresAtMs: 1_800_000_000_000,
      owner: 'payments',
      reason: 'PCI',
    },
  ],
  authorizationPolicies: [
    {
      namespace: 'billing',
      name: 'only-web',
      action: 'ALLOW',
      selector: {},
      rules: [
        {
          from: [{ principals: ['mesh.test/ns/shop/sa/web'] }],
          to: [{ ports: [80] }],
          when: [{ key: 'destination.ip', notValues: ['10.0.0.1/32'] }],
        },
      ],
    },
  ],
  networkPolicies: [
    {
      namespace: 'billing',
      name: 'db',
      podSelector: [{ key: 'app', operator: 'In', values: ['db'] }],
      ingress: [
        {
          peers: [
            { kind: 'pods', namespaceSelector: null, podSelector: [] },
            { kind: 'block', cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] },
          ],
          ports: [[5432, 5432]],
        },
      ],
      egress: null,
    },
  ],
  peerAuthentications: [
    { namespace: 'billing', name: 'strict', selector: { app: 'db' }, mode: 'STRICT', ports: { 80: 'PERMISSIVE' } },
  ],
  externals: [{ name: 'billing/bank', hosts: ['bank.example'], cidrs: ['203.0.113.9/32'], ports: [[443, 443]] }],
  namespaces: { billing: { team: 'payments' } },
};

const entry: WorkloadEntry = {
  kind: 'workload',
  namespace: 'billing',
  name: 'db',
  serviceAccount: 'db',
  identity: formatSpiffeId({ trustDomain: 'mesh.test', namespace: 'billing', serviceAccount: 'db' }),
  labels: { app: 'db' },
  addresses: ['198.18.0.9' as IpAddress, 'fd00::9' as IpAddress],
  node: nodeNamed('n1'),
  netns: 'db',
  protocol: 'hbone',
  capture: { excludeOutboundPorts: [], excludeInboundPorts: [], excludeOutboundCidrs: [] },
};

const sealed = sealSnapshot({ snapshot, privateKeyPem: key.privateKey });
const sealedEntry = sealRegistryEntry({ entry, sequence: 3, privateKeyPem: key.privateKey });

function change(bytes: Uint8Array, edit: (envelope: Record<string, unknown>) => void): Uint8Array {
  const envelope = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  edit(envelope);
  return Buffer.from(JSON.stringify(envelope));
}

/** A correctly signed envelope around any text, as only the holder of the key can make it. */
function sealAnything(text: string, context: string): Uint8Array {
  const bytes = gzipSync(Buffer.from(text));
  const signature = signBytes(key.privateKey, Buffer.concat([Buffer.from([context, '0', ''].join('\0')), bytes]));
  return Buffer.from(
    JSON.stringify({ payload: bytes.toString('base64'), signature: Buffer.from(signature).toString('base64') }),
  );
}

test('a sealed snapshot opens with any of the accepted keys', () => {
  assert.deepEqual(openSnapshot({ bytes: sealed, publicKeysPem: [key.publicKey] }), snapshot);
  assert.deepEqual(openSnapshot({ bytes: sealed, publicKeysPem: [other.publicKey, key.publicKey] }), snapshot);
});

test('a snapshot of another key, or with no accepted key, is refused', () => {
  for (const publicKeysPem of [[other.publicKey], [], ['not a key'], [key.publicKey.slice(0, 60)]]) {
    assert.throws(() => openSnapshot({ bytes: sealed, publicKeysPem }), { code: 'SIGNATURE_INVALID' });
  }
});

test('a snapshot whose payload or signature was changed is refused', () => {
  const looser = { ...snapshot, mesh: { ...snapshot.mesh, defaultAction: 'allow' } };
  const payload = Buffer.from(JSON.stringify(looser)).toString('base64');
  const changed = change(sealed, (envelope) => {
    envelope['payload'] = payload;
  });
  assert.throws(() => openSnapshot({ bytes: changed, publicKeysPem: [key.publicKey] }), { code: 'SIGNATURE_INVALID' });
  const unsigned = change(sealed, (envelope) => {
    envelope['signature'] = Buffer.alloc(64).toString('base64');
  });
  assert.throws(() => openSnapshot({ bytes: unsigned, publicKeysPem: [key.publicKey] }), { code: 'SIGNATURE_INVALID' });
});

test('what was signed as one thing is not accepted as another', () => {
  const asSnapshot = change(sealedEntry, (envelope) => {
    delete envelope['sequence'];
  });
  assert.throws(() => openSnapshot({ bytes: asSnapshot, publicKeysPem: [key.publicKey] }), {
    code: 'SIGNATURE_INVALID',
  });
  const asEntry = change(sealed, (envelope) => {
    envelope['sequence'] = 1;
  });
  assert.throws(
    () => openRegistryEntry({ bytes: asEntry, key: 'workload.billing.db', publicKeysPem: [key.publicKey] }),
    { code: 'SIGNATURE_INVALID' },
  );
});

test('an unknown field in a correctly signed snapshot refuses the whole revision', () => {
  const [rule] = snapshot.rules;
  const newer = { ...snapshot, rules: [{ ...rule, onlyOnSundays: true }] };
  assert.throws(
    () =>
      openSnapshot({
        bytes: sealAnything(writeSnapshot(newer as unknown as Snapshot), 'culvert.snapshot.v2'),
        publicKeysPem: [key.publicKey],
      }),
    { code: 'PAYLOAD_INVALID', message: /rules\.0/ },
  );
});

test('a correctly signed snapshot that lost a line, or has one too many, is refused', () => {
  const text = writeSnapshot(snapshot);
  for (const wrong of [text.slice(0, text.lastIndexOf('\n')), `${text}\n{}`, '', 'null', '{}']) {
    const bytes = sealAnything(wrong, 'culvert.snapshot.v2');
    assert.throws(() => openSnapshot({ bytes, publicKeysPem: [key.publicKey] }), { code: 'PAYLOAD_INVALID' });
  }
});

test('a payload that expands to more than a snapshot may be is refused', () => {
  const bytes = sealAnything(' '.repeat(maxSnapshotTextBytes + 1), 'culvert.snapshot.v2');
  assert.throws(() => openSnapshot({ bytes, publicKeysPem: [key.publicKey] }), { code: 'PAYLOAD_INVALID' });
});

test('rules that two revisions have in common are the same objects, and new ones are still checked', () => {
  const reader = snapshotReader();
  const open = (next: Snapshot) =>
    openSnapshot({
      bytes: sealSnapshot({ snapshot: next, privateKeyPem: key.privateKey }),
      publicKeysPem: [key.publicKey],
      reader,
    });
  const [rule] = snapshot.rules;
  assert.ok(rule !== undefined);
  const first = open(snapshot);
  const added = { ...rule, name: 'added', priority: 1 };
  const next = { ...snapshot, revision: snapshot.revision + 1, rules: [added, ...snapshot.rules] };
  const second = open(next);
  assert.deepEqual(second, next);
  assert.equal(second.rules[1], first.rules[0]);
  assert.throws(
    () => open({ ...next, rules: [...next.rules, { ...rule, action: 'maybe' } as unknown as typeof rule] }),
    {
      code: 'PAYLOAD_INVALID',
    },
  );
  assert.deepEqual(open(snapshot), snapshot);
});

test('bytes that are no envelope are refused', () => {
  for (const text of ['', '{}', '[]', 'null', '{"payload":"!","signature":"!"}', '\u{FFFD}']) {
    assert.throws(() => openSnapshot({ bytes: Buffer.from(text), publicKeysPem: [key.publicKey] }), {
      code: 'PAYLOAD_INVALID',
    });
  }
});

test('a message beyond the size limit is refused before it is parsed, and never sealed', () => {
  const bytes = Buffer.alloc(maxSnapshotBytes * 2);
  assert.throws(() => openSnapshot({ bytes, publicKeysPem: [key.publicKey] }), { code: 'PAYLOAD_TOO_LARGE' });
  const huge = { ...snapshot, createdBy: randomBytes(maxSnapshotBytes).toString('base64') };
  assert.throws(() => sealSnapshot({ snapshot: huge, privateKeyPem: key.privateKey }), { code: 'PAYLOAD_TOO_LARGE' });
});

test('a snapshot just below the limit is sealed and opened', () => {
  const large = { ...snapshot, createdBy: randomBytes(maxSnapshotBytes - 100_000).toString('base64') };
  const bytes = sealSnapshot({ snapshot: large, privateKeyPem: key.privateKey });
  assert.ok(bytes.length < 8 * 1024 * 1024);
  assert.equal(openSnapshot({ bytes, publicKeysPem: [key.publicKey] }).createdBy.length, large.createdBy.length);
});

test('a registry entry opens at its own key with its sequence', () => {
  const opened = openRegistryEntry({ bytes: sealedEntry, key: 'workload.billing.db', publicKeysPem: [key.publicKey] });
  assert.deepEqual(opened, { entry, sequence: 3 });
});

test('a registry entry that was moved to another key is refused', () => {
  assert.throws(
    () => openRegistryEntry({ bytes: sealedEntry, key: 'workload.billing.api', publicKeysPem: [key.publicKey] }),
    { code: 'PAYLOAD_INVALID', message: /workload\.billing\.db/ },
  );
});

test('a registry entry whose sequence was changed is refused', () => {
  const replayed = change(sealedEntry, (envelope) => {
    envelope['sequence'] = 4;
  });
  assert.throws(
    () => openRegistryEntry({ bytes: replayed, key: 'workload.billing.db', publicKeysPem: [key.publicKey] }),
    { code: 'SIGNATURE_INVALID' },
  );
});

test('only an Ed25519 key verifies, and a broken one verifies nothing', () => {
  const bytes = Buffer.from('x');
  const signature = signBytes(key.privateKey, bytes);
  assert.equal(verifyBytes(key.publicKey, bytes, signature), true);
  assert.equal(verifyBytes(key.publicKey, Buffer.from('y'), signature), false);
  assert.equal(verifyBytes('', bytes, signature), false);
});
