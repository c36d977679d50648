import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { CulvertError } from '../../../../shared/errors.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { recentAnswerSchema } from '../../../../shared/wire/recent-flows.js';
import { decodeFlowBatch, packWire } from '../../../../shared/wire/flow-batch.js';
import { pageKeyOf } from '../../../../shared/wire/registry-leaf.js';
import { decodeRegistryPage } from '../../../../shared/wire/registry-page.js';
import { openRegistryRoot, sealRegistryRoot } from '../../../../shared/wire/registry-root.js';
import {
  caResponseSchema,
  decodeWire,
  encodeWire,
  heartbeatSchema,
  joinResponseSchema,
  renewResponseSchema,
} from '../../../../shared/wire/requests.js';
import { rulesPointerSchema } from '../../../../shared/wire/rules-pointer.js';
import { encodeJson, signEnvelope } from '../../../../shared/wire/signed-envelope.js';
import { openRegistryEntry, openSnapshot } from '../../../../shared/wire/signed.js';
import { decodeTrustHint } from '../../../../shared/wire/trust-hint.js';

/**
 * What an agent and a controller of different versions make of each other's messages. Questions, answers and reports may gain
 * fields, which earlier versions pass over. What decides about connections may not: a field that is not known refuses it
 * as a whole, and names it. Whatever is refused says that the versions differ.
 */
const key = generateSigningKey();
const publicKeysPem = [key.publicKey];
const privateKeyPem = key.privateKey;

const answer = {
  nodeCertificatePem: 'pem',
  natsJwt: 'jwt',
  notAfterMs: 1,
  rootsPem: 'pem',
  signingPublicKeys: ['pem'],
};
const beat = { node: 'a', version: '9.0', appliedRevision: 1, enforcedByAllWorkers: true, registrySequence: 1 };

describe('a message of a newer version', () => {
  const gains: readonly (readonly [what: string, schema: Parameters<typeof decodeWire>[0], value: object])[] = [
    ['heartbeat', heartbeatSchema, { ...beat, nowMs: 1, startedAtMs: 1, workloads: [], pending: [] }],
    ['answer to a renewal', renewResponseSchema, answer],
    [
      'answer to a join',
      joinResponseSchema,
      { ...answer, natsServers: ['a:1'], natsServerName: null, natsCaPem: null, trustDomain: 'mesh.test' },
    ],
    ['roots', caResponseSchema, { rootsPem: 'pem' }],
  ];
  for (const [what, schema, value] of gains) {
    it(`is read without what was added to it: ${what}`, () => {
      assert.deepEqual(decodeWire(schema, encodeWire({ ...value, addedLater: { x: 1 } })), value);
    });
  }

  for (const [what, schema] of [
    ['pointer to the rules', rulesPointerSchema],
    ['answer about recent flows', recentAnswerSchema],
  ] as const) {
    it(`may gain a field: ${what}`, () => {
      const issues = schema.safeParse({ addedLater: 1 }).error?.issues ?? [];
      assert.deepEqual(
        issues.filter(({ code }) => code === 'unrecognized_keys'),
        [],
      );
    });
  }
});

it('a hint about roots is read without what was added to it', () => {
  const hint = { roots: ['a'.repeat(64)], signsUnder: 'a'.repeat(64) };
  assert.deepEqual(decodeTrustHint(encodeWire({ ...hint, addedLater: 1 })), hint);
});

describe('what decides about connections', () => {
  const leaf = { depth: 0, start: 0 };
  const listed = { ...leaf, key: pageKeyOf(leaf), digest: `${'A'.repeat(43)}=` };
  const entry = { kind: 'workload', namespace: 'shop', name: 'db', addedLater: 1 };
  const refused: readonly (readonly [what: string, open: () => unknown, names: RegExp])[] = [
    [
      'rules',
      () => {
        const text = gzipSync('{"addedLater":1}');
        const as = { context: 'culvert.snapshot.v2', about: '0' } as const;
        return openSnapshot({ bytes: encodeJson(signEnvelope(as, text, privateKeyPem)), publicKeysPem });
      },
      /snapshot is malformed/,
    ],
    [
      'an entry of the registry',
      () => {
        const as = { context: 'culvert.registry.v1', about: '7' } as const;
        const bytes = encodeJson({ ...signEnvelope(as, encodeJson(entry), privateKeyPem), sequence: 7 });
        return openRegistryEntry({ bytes, key: 'workload.shop.db', publicKeysPem });
      },
      /malformed at/,
    ],
    [
      'a page of the registry',
      () => decodeRegistryPage({ bytes: gzipSync('{"entries":{},"digest":null,"addedLater":1}'), leaf }),
      /page of the registry is malformed/,
    ],
    [
      'the root of the registry',
      () => {
        const sealed = sealRegistryRoot({ root: { sequence: 7, pages: [listed] }, privateKeyPem });
        const envelope = JSON.parse(Buffer.from(sealed).toString()) as object;
        return openRegistryRoot({ bytes: encodeJson({ ...envelope, addedLater: 1 }), publicKeysPem });
      },
      /malformed/,
    ],
  ];
  for (const [what, open, names] of refused) {
    it(`is refused as a whole when it has what this version does not know: ${what}`, () => {
      assert.throws(open, (error: CulvertError) => {
        assert.equal(error.code, 'PAYLOAD_INVALID');
        assert.match(error.message, names);
        assert.equal(error.hint, 'run agents that are not older than the controller');
        return true;
      });
    });
  }
});

describe('a message that lacks what this version needs', () => {
  for (const [what, read] of [
    ['heartbeat', () => decodeWire(heartbeatSchema, encodeWire({ node: 'a' }))],
    ['answer to a renewal', () => decodeWire(renewResponseSchema, encodeWire({ ok: true }))],
    ['batch of flows', () => decodeFlowBatch(packWire({ format: 9 }))],
    ['batch of flows in another packing', () => decodeFlowBatch(encodeWire({ format: 9 }))],
  ] as const) {
    it(`is an error that says so: ${what}`, () => {
      assert.throws(read, {
        code: 'WIRE_INVALID',
        hint: 'run the same version of culvert-agent and culvert-controller',
      });
    });
  }
});
