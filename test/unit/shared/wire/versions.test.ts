import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { CulvertError } from '../../../../shared/errors.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';
import { registryKey } from '../../../../shared/routing/registry-entry.js';
import { openNodeEnrolment, sealNodeEnrolment } from '../../../../shared/wire/node-enrolment.js';
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
import { openRegistryEntry, openSnapshot, sealRegistryEntry, snapshotReader } from '../../../../shared/wire/signed.js';
import { ignorableFields } from '../../../../shared/wire/snapshot-schema.js';
import { writeSnapshot } from '../../../../shared/wire/snapshot-text.js';
import { decodeTrustHint } from '../../../../shared/wire/trust-hint.js';
import { nodeNamed } from '../../../support/routing/names.js';
import { recordedService, recordedSnapshot, recordedWorkload } from '../../../support/wire/recorded-meaning.js';
import { recorded } from '../../../support/wire/recorded-messages.js';

/**
 * What an agent and a controller of different versions make of each other's messages. Questions, answers and reports may gain
 * fields, which earlier versions pass over. So may what decides about connections, where the message itself says that they may:
 * any other that is not known refuses it as a whole, and is named. Whatever is refused says that the versions differ.
 */
const key = generateSigningKey();
const node = nodeNamed('node1');
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
  const entry = { ...recordedWorkload, addedLater: 1, requires: ['addedLater'] };
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
        return openRegistryEntry({ bytes, key: registryKey(recordedWorkload), publicKeysPem });
      },
      /malformed at requires\.0: requires what this version does not know/,
    ],
    [
      'the pods that wait for an agent',
      () => {
        const as = { context: 'culvert.enrolment.v1', about: node } as const;
        const payload = encodeJson({ version: 1, namespaces: [], outside: [], requires: ['addedLater'] });
        return openNodeEnrolment({ node, bytes: encodeJson(signEnvelope(as, payload, privateKeyPem)), publicKeysPem });
      },
      /malformed at requires\.0: requires what this version does not know/,
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

describe('what decides about connections and may be passed over', () => {
  const [rule] = recordedSnapshot.rules;
  const newer = {
    ...recordedSnapshot,
    mesh: { ...recordedSnapshot.mesh, colour: 'blue' },
    rules: [{ ...rule, ticket: 'OPS-1' }],
    reviews: [{ by: 'ops' }],
  } as unknown as Snapshot;
  const read = (ignorable: readonly string[], reader = snapshotReader()): Snapshot =>
    reader.read(writeSnapshot(newer, ignorable));

  it('is left out of rules that say so', () => {
    const all = ['mesh.colour', 'rules.ticket', 'reviews'];
    assert.deepEqual(read(all), { ...recordedSnapshot, rules: [rule] });
    const reader = snapshotReader();
    read(all, reader);
    assert.deepEqual(
      read([...all, 'externals.other'], reader),
      { ...recordedSnapshot, rules: [rule] },
      'and of the next ones',
    );
  });

  for (const missing of ['mesh.colour', 'rules.ticket', 'reviews']) {
    it(`is refused as a whole where one field is not listed: ${missing}`, () => {
      const others = ['mesh.colour', 'rules.ticket', 'reviews'].filter((name) => name !== missing);
      assert.throws(() => read(others));
    });
  }

  it('is refused where a peer has what is not known, whatever is listed: it would match more', () => {
    const wider = { ...recordedSnapshot, rules: [{ ...rule, from: [{ colour: 'blue' }] }] } as unknown as Snapshot;
    assert.throws(() => snapshotReader().read(writeSnapshot(wider, ['rules.from.colour', 'colour'])));
  });

  /** As a later version may write it: what says how connections are shared is listed, and what a route matches is not. */
  const traffic = (more: { policy?: object; match?: object }) => {
    const policy = { balancing: 'random', ...more.policy };
    const subsets = [{ name: 'v1', labels: {}, policy, ports: { '80': policy } }];
    const rule = { namespace: 'shop', name: 'web', host: 'web.shop.svc.cluster.local' };
    const match = { port: 80, ...more.match };
    return {
      ...recordedSnapshot,
      destinationRules: [{ ...rule, policy, ports: { '80': policy, '81': {} }, subsets }],
      virtualServices: [{ ...rule, routes: [{ matches: [match], choices: [{ subset: 'v1', weight: 1 }] }] }],
    } as unknown as Snapshot;
  };
  const policies = ['policy', 'ports.*', 'subsets.policy', 'subsets.ports.*'].map((path) => `destinationRules.${path}`);

  it('is left out of documents about traffic at any depth, and said to be', () => {
    const listed = policies.map((path) => `${path}.panicPercent`);
    const reader = snapshotReader();
    const written = writeSnapshot(traffic({ policy: { panicPercent: 50 } }), listed);
    assert.deepEqual(reader.read(written), traffic({}));
    assert.deepEqual(reader.passedOver, listed.toSorted());
    // The next revision has the same document, which is not read again.
    assert.deepEqual(reader.read(written), traffic({}));
    assert.deepEqual(reader.passedOver, listed.toSorted());
    reader.read(writeSnapshot(traffic({}), listed));
    assert.deepEqual(reader.passedOver, []);
    reader.read(writeSnapshot(newer, ['mesh.colour', 'rules.ticket', 'reviews']));
    assert.deepEqual(reader.passedOver, ['mesh.colour', 'reviews', 'rules.ticket']);
  });

  it('is refused as a whole where it narrows a route, and the last rules are those that were read', () => {
    const reader = snapshotReader();
    const before = reader.read(writeSnapshot(traffic({})));
    const listed = policies.map((path) => `${path}.panicPercent`);
    assert.throws(() => reader.read(writeSnapshot(traffic({ match: { sniHosts: ['a'] } }), listed)), /sniHosts/);
    assert.deepEqual([reader.read(writeSnapshot(before)), reader.passedOver], [before, []]);
  });

  it('is left out where it is a fault: an agent that cannot have one made lets connections go as without it', () => {
    const document = { namespace: 'shop', name: 'web', host: 'web.shop.svc.cluster.local' };
    const with_ = (more: object): Snapshot => ({
      ...recordedSnapshot,
      virtualServices: [{ ...document, routes: [{ matches: [], choices: [{ subset: null, weight: 1 }], ...more }] }],
    });
    assert.ok(ignorableFields.includes('virtualServices.routes.faults'));
    // To an agent of an earlier version the field has a name that this one does not know either.
    const older = (text: string): string => text.replaceAll('faults', 'stluaf');
    const faults = { abort: { percent: 5, expiresAtMs: 1 } };
    const reader = snapshotReader();
    assert.deepEqual(reader.read(older(writeSnapshot(with_({ faults }), ignorableFields))), with_({}));
    assert.deepEqual(reader.passedOver, ['virtualServices.routes.stluaf']);
    assert.deepEqual(reader.read(writeSnapshot(with_({ faults }), ignorableFields)), with_({ faults }));
    assert.deepEqual(reader.passedOver, []);
    // A later version may bound a fault by more: without that it would be for more connections.
    const bounded = with_({ faults: { abort: { percent: 5, onlyFor: 'x' } } });
    assert.throws(() => reader.read(writeSnapshot(bounded, ignorableFields)), /onlyFor/);
  });

  it('is left out where it is a shadow: an agent that cannot copy lets connections go as without it', () => {
    const document = { namespace: 'shop', name: 'web', host: 'web.shop.svc.cluster.local' };
    const with_ = (more: object): Snapshot => ({
      ...recordedSnapshot,
      virtualServices: [{ ...document, routes: [{ matches: [], choices: [{ subset: null, weight: 1 }], ...more }] }],
    });
    const mirror = { percent: 5, subset: 'v2', service: 'shop/web2', port: 80 };
    const text = writeSnapshot(with_({ mirror }), ignorableFields);
    const reader = snapshotReader();
    // To an agent of an earlier version the field has a name that this one does not know either.
    assert.deepEqual(reader.read(text.replaceAll('mirror', 'rorrim')), with_({}));
    assert.deepEqual(reader.passedOver, ['virtualServices.routes.rorrim']);
    assert.deepEqual([reader.read(text), reader.passedOver], [with_({ mirror }), []]);
    // A later version may bound it by more: without that more would be copied.
    assert.throws(
      () => reader.read(writeSnapshot(with_({ mirror: { ...mirror, until: 1 } }), ignorableFields)),
      /until/,
    );
  });

  it('is written only where there is something', () => {
    assert.ok(!writeSnapshot(recordedSnapshot).includes('ignorable'));
  });
});

describe('what the build before wrote', () => {
  const { publicKey, workload, service, snapshot, enrolment } = recorded;
  const keys = [publicKey];

  it('is read as it was meant: entries of the registry', () => {
    for (const [bytes, entry] of [
      [workload, recordedWorkload],
      [service, recordedService],
    ] as const) {
      assert.deepEqual(openRegistryEntry({ bytes, key: registryKey(entry), publicKeysPem: keys }).entry, entry);
    }
  });

  it('is read as it was meant: rules', () => {
    assert.deepEqual(openSnapshot({ bytes: snapshot, publicKeysPem: keys }), recordedSnapshot);
  });

  it('is read as it was meant: the pods that wait for an agent', () => {
    const read = openNodeEnrolment({ node, bytes: enrolment, publicKeysPem: keys });
    assert.deepEqual(read, { version: 7, namespaces: ['shop'], outside: ['uid-1'] });
  });

  it('is what this build writes, so the build before reads it: nothing is added where nothing new is used', () => {
    const payloadOf = (bytes: Uint8Array): string => {
      const { payload } = JSON.parse(Buffer.from(bytes).toString()) as { readonly payload: string };
      return Buffer.from(payload, 'base64').toString();
    };
    for (const [bytes, entry] of [
      [workload, recordedWorkload],
      [service, recordedService],
    ] as const) {
      assert.equal(payloadOf(sealRegistryEntry({ entry, sequence: 7, privateKeyPem })), payloadOf(bytes));
    }
    const { payload } = JSON.parse(Buffer.from(snapshot).toString()) as { readonly payload: string };
    assert.equal(writeSnapshot(recordedSnapshot), gunzipSync(Buffer.from(payload, 'base64')).toString());
    const written = { version: 7, namespaces: ['shop'], outside: ['uid-1'] };
    assert.equal(payloadOf(sealNodeEnrolment({ node, enrolment: written, privateKeyPem })), payloadOf(enrolment));
  });
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
