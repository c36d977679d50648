import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  decodeWire,
  encodeWire,
  heartbeatSchema,
  maxWireBytes,
  nodeName,
  signRequestSchema,
  signResponseSchema,
} from '../../../../shared/wire/requests.js';

const identity = 'spiffe://culvert.local/ns/billing/sa/api';

test('what was encoded is decoded, without fields that this version does not know', () => {
  const bytes = encodeWire({ requests: [{ identity, csrPem: 'pem', extra: 1 }], later: true });
  assert.deepEqual(decodeWire(signRequestSchema, bytes), { requests: [{ identity, csrPem: 'pem' }] });
});

test('a refusal of the whole request is thrown with its own code and hint', () => {
  const bytes = encodeWire({ error: { code: 'CSR_INVALID', message: 'no', hint: 'yes' } });
  assert.throws(() => decodeWire(signResponseSchema, bytes), { code: 'CSR_INVALID', message: 'no', hint: 'yes' });
});

test('one refused identity does not spoil the answer for the others', () => {
  const certificates = [
    { identity, chainPem: 'pem', notAfterMs: 1 },
    { identity, error: { code: 'IDENTITY_NOT_ON_NODE', message: 'no', hint: null } },
  ];
  const decoded = decodeWire(signResponseSchema, encodeWire({ rootsPem: 'pem', certificates }));
  assert.deepEqual(decoded.certificates, certificates);
});

test('what cannot be used is WIRE_INVALID', () => {
  const cases = [
    new TextEncoder().encode('{'),
    new Uint8Array([0xff, 0xfe]),
    encodeWire(null),
    encodeWire({ requests: [] }),
    encodeWire({ requests: Array.from({ length: 65 }, () => ({ identity, csrPem: 'pem' })) }),
    encodeWire({ requests: [{ identity: 'spiffe://x/ns/../sa/y', csrPem: 'pem' }] }),
    encodeWire({ requests: [{ identity, csrPem: 'x'.repeat(70_000) }] }),
    new TextEncoder().encode(' '.repeat(maxWireBytes + 1)),
  ];
  for (const bytes of cases) assert.throws(() => decodeWire(signRequestSchema, bytes), { code: 'WIRE_INVALID' });
});

test('node names are DNS subdomains, so that one can be a subject, a key and a part of an identity', () => {
  for (const name of ['a', 'host-a', 'ip-10-0-0-1.ec2.internal', 'x'.repeat(63)]) {
    assert.equal(nodeName.safeParse(name).success, true, name);
  }
  for (const name of [
    '',
    '-a',
    'a-',
    'A',
    'a_b',
    'a..b',
    '.a',
    'a.',
    'a*',
    'a>',
    'a b',
    'x'.repeat(64),
    'a.'.repeat(127) + 'a'.repeat(10),
  ]) {
    assert.equal(nodeName.safeParse(name).success, false, name);
  }
});

test('a heartbeat with an impossible revision is refused', () => {
  const heartbeat = {
    node: 'host-a',
    version: '1',
    appliedRevision: 1,
    enforcedByAllWorkers: true,
    registrySequence: null,
    nowMs: 1,
    startedAtMs: 1,
    workloads: [],
    pending: [],
  };
  assert.equal(heartbeatSchema.safeParse(heartbeat).success, true);
  for (const appliedRevision of [-1, 1.5, '1', undefined]) {
    assert.equal(heartbeatSchema.safeParse({ ...heartbeat, appliedRevision }).success, false);
  }
});
