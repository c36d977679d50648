import { gzipSync } from 'node:zlib';
import { decodeFlowBatch, encodeFlowBatch } from '../../../shared/wire/flow-batch.js';
import { openNewestStatement } from '../../../shared/wire/newest-statement.js';
import { decodeRecentFlows, recentAnswerSchema } from '../../../shared/wire/recent-flows.js';
import { decodeRegistryPage } from '../../../shared/wire/registry-page.js';
import { openRegistryRoot } from '../../../shared/wire/registry-root.js';
import {
  decodeWire,
  heartbeatSchema,
  joinRequestSchema,
  renewRequestSchema,
  signRequestSchema,
} from '../../../shared/wire/requests.js';
import { rulesPointerSchema } from '../../../shared/wire/rules-pointer.js';
import { openAnswer } from '../../../shared/wire/sealed-answer.js';
import { openRequest } from '../../../shared/wire/sealed-request.js';
import { openProvenRegistryEntry, openRegistryEntry, openSnapshot } from '../../../shared/wire/signed.js';
import { encodeJson, signEnvelope, type SignedAs } from '../../../shared/wire/signed-envelope.js';
import { writeSnapshot } from '../../../shared/wire/snapshot-text.js';
import { decodeTrustHint, trustReportSchema } from '../../../shared/wire/trust-hint.js';
import { generateSigningKey } from '../../../shared/pki/signing-key.js';
import { allowAll } from '../../support/agent/dataplane-mesh.js';
import { TestCa, clientIdentity } from '../../support/tunnel/tunnel-certificates.js';
import { once, outcomeOf, type FuzzTarget } from '../target.js';

const key = generateSigningKey();
const publicKeysPem = [key.publicKey];
const words = [
  ['null', 'true', '{}', '[]', '""', '-1', '1e400', '"__proto__":', '"constructor":', '\\ud800', '\\u0000', '\xff'],
  ['"kind":"workload"', '"kind":"service"', '"identity":"spiffe://lab.test/ns/a/sa/b"', '"10.0.0.1"', '"::1"', '/32'],
  ['"payload":"', '"signature":"', '"sequence":', '"revision":', '"addresses":[', '[[[[[[[[', '{"a":{"a":'],
].flat();

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const workload = {
  kind: 'workload',
  name: 'web',
  namespace: 'shop',
  serviceAccount: 'web',
  identity: clientIdentity,
  labels: { app: 'web' },
  node: 'host-a',
  netns: 'web',
  addresses: ['10.0.0.1'],
};

const entryKey = 'workload.shop.web';

export const requestTarget: FuzzTarget = {
  name: 'requests',
  reads: 'what nodes send to the controller (join, sign, renew, heartbeat, flow records) and agents read unsigned',
  seeds: () => [
    json({ identities: [{ identity: clientIdentity, csrPem: 'x' }] }),
    json({ csrPem: 'x', natsUserPublicKey: 'U' }),
    json({ trusts: ['0'.repeat(64)], proves: [] }),
    json({ revision: 1, sha256: '0'.repeat(64), bytes: 1 }),
    json({ roots: ['0'.repeat(64)], signsUnder: '0'.repeat(64) }),
    Buffer.from(encodeFlowBatch({ sentAtMs: 1, flows: [], lost: [] } as never)),
  ],
  words,
  check: (input) => {
    const schemas = [joinRequestSchema, signRequestSchema, renewRequestSchema, heartbeatSchema, trustReportSchema];
    const read = [...schemas, rulesPointerSchema, recentAnswerSchema].map((schema) => () => decodeWire(schema, input));
    const batches = [input, gzipSync(input)].flatMap((bytes) => [
      () => decodeFlowBatch(bytes),
      () => decodeRecentFlows(bytes),
    ]);
    return [...read, ...batches, () => decodeTrustHint(input)].map(outcomeOf).join();
  },
};

const subject = 'culvert.sign.host-a';
const asked = { subject, request: Buffer.from('{}') };
const ca = once(() => TestCa.create());

export const sealedTarget: FuzzTarget = {
  name: 'sealed',
  reads: 'envelopes that anyone in NATS can write: signatures and certificates are part of what is changed',
  seeds: async () => {
    const { certificates } = await (await ca()).issue(clientIdentity);
    const envelope = signEnvelope({ context: 'culvert.newest.v1', about: '0' }, Buffer.from('{}'), key.privateKey);
    return [
      Buffer.from(encodeJson(envelope)),
      Buffer.from(encodeJson({ ...envelope, sequence: 1 })),
      json({ payload: 'e30=', signature: 'AAAA', certificatePem: certificates[0]?.chainPem }),
    ];
  },
  words,
  check: async (input) => {
    const rootsPem = (await ca()).root.certificatePem;
    const spiffeId = 'spiffe://lab.test/node/host-a';
    return [
      () => openRequest({ subject, bytes: input, spiffeId, rootsPem, nowMs: Date.now() }),
      () => openAnswer({ asked, bytes: input, publicKeysPem }),
      () => openSnapshot({ bytes: input, publicKeysPem }),
      () => openRegistryEntry({ bytes: input, key: entryKey, publicKeysPem }),
      () => openRegistryRoot({ bytes: input, publicKeysPem }),
      () => openNewestStatement({ bytes: input, publicKeysPem }),
    ]
      .map(outcomeOf)
      .join();
  },
};

export const signedTarget: FuzzTarget = {
  name: 'signed',
  reads: 'rules and registry with a right signature, as a controller of another version would send them',
  seeds: () => [
    Buffer.from(writeSnapshot(allowAll())),
    json(workload),
    json({ kind: 'service', name: 'db', namespace: 'shop', vips: [], selector: {}, ports: [] }),
    json({ atMs: 1, revision: 1, registrySequence: 1 }),
    json({ entries: { 'workload.shop.web': 1 }, digest: 'AAAA' }),
    Buffer.from('\0'.repeat(33), 'latin1'),
  ],
  words,
  check: (input) => {
    const signed = (context: SignedAs['context'], about: string, payload: Uint8Array, more: object = {}) =>
      encodeJson({ ...signEnvelope({ context, about }, payload, key.privateKey), ...more });
    const entry = signed('culvert.registry.v1', '1', input, { sequence: 1 });
    return [
      () => openSnapshot({ bytes: signed('culvert.snapshot.v2', '0', gzipSync(input, { level: 1 })), publicKeysPem }),
      () => openRegistryEntry({ bytes: entry, key: entryKey, publicKeysPem }),
      () => openProvenRegistryEntry({ bytes: entry, key: entryKey }),
      () => openNewestStatement({ bytes: signed('culvert.newest.v1', '0', input), publicKeysPem }),
      () => decodeRegistryPage({ bytes: gzipSync(input, { level: 1 }), leaf: { depth: 0, start: 0 } }),
    ]
      .map(outcomeOf)
      .join();
  },
};
