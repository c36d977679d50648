import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { OpenedCa } from '../../../../../controller/ca/open-mesh-ca.js';
import { createIssuingCa, createRootCa } from '../../../../../controller/ca/x509/certificate-authority.js';
import { parseCsr } from '../../../../../controller/ca/x509/parsed-certificate-request.js';
import { SignService } from '../../../../../controller/ca/sign-service.js';
import { createCsr } from '../../../../../shared/pki/certificate-request.js';
import { silentLog, temporaryDirectory } from '../../../../support/controller/controller-fixture.js';
import { hostA, openCa, signWeb, trustDomain, vaultSettings, web } from '../../../../support/issuer/external-mesh.js';
import { FakeVault } from '../../../../support/issuer/fake-vault.js';
import type { Misbehaviour } from '../../../../support/issuer/issuer-server.js';
import type { LeafOrder } from '../../../../support/issuer/signing-ca.js';

let vault: FakeVault;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let opened: OpenedCa;
before(async () => {
  vault = await FakeVault.start(trustDomain);
  directory = await temporaryDirectory();
  opened = await openCa(await vaultSettings(vault, directory.path));
});
after(async () => {
  await opened.close();
  await vault[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

const api = `spiffe://${trustDomain}/ns/billing/sa/api`;
const otherKey = (await parseCsr((await createCsr({ identity: web })).csrPem)).publicKey;
const otherRoot = await createRootCa({ trustDomain });
const otherCa = await createIssuingCa({ root: otherRoot, trustDomain });
const url = (value: string) => ({ type: 'url', value }) as const;
const day = 86_400_000;

const alterations: readonly [what: string, alter: (order: LeafOrder) => LeafOrder, message: RegExp][] = [
  ['another identity', (order) => ({ ...order, names: [url(api)] }), /it is for uri .*billing.*, not for uri .*shop/],
  ['a second identity', (order) => ({ ...order, names: [...order.names, url(api)] }), /it is for uri/],
  [
    'a host name in addition',
    (order) => ({ ...order, names: [...order.names, { type: 'dns', value: 'culvert-nats' }] }),
    /dns/,
  ],
  [
    'an address in addition',
    (order) => ({ ...order, names: [...order.names, { type: 'ip', value: '10.0.0.1' }] }),
    /ip 0a000001/,
  ],
  ['no identity', (order) => ({ ...order, names: [{ type: 'dns', value: 'web' }] }), /it is for dns web/],
  ['a common name, which some take for a host', (order) => ({ ...order, commonName: 'culvert-nats' }), /common name/],
  ['another key', (order) => ({ ...order, publicKey: otherKey }), /another key/],
  [
    'only the use as a client',
    (order) => ({ ...order, usages: ['client'] }),
    /usages are not exactly server auth and client auth/,
  ],
  ['a longer life', (order) => ({ ...order, ttlMs: 30 * day }), /longer than the 86400 s/],
  ['hardly any life', (order) => ({ ...order, ttlMs: 5000 }), /it ends at .* already/],
  ['a life that begins in an hour', (order) => ({ ...order, backdateMs: -3_600_000 }), /compare the clocks/],
  ['a CA of another root', (order) => ({ ...order, issuer: otherCa }), /no chain leads/],
];

for (const [what, alter, message] of alterations) {
  test(`an issuer that gives ${what} gives an agent nothing`, async () => {
    vault.ca.alter = alter;
    try {
      await assert.rejects(signWeb(opened), { code: 'ISSUER_UNFIT', message });
    } finally {
      vault.ca.alter = (order) => order;
    }
    await signWeb(opened);
  });
}

test('the certificate of a CA, and what is no certificate, are refused', async () => {
  const answers: readonly [certificate: string, chain: string[], message: RegExp][] = [
    [vault.ca.issuing.certificatePem, [], /another key/],
    ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', [], /cannot be read/],
    ['', [], /lacks the certificate/],
    ['no certificate', [], /it has no certificate/],
  ];
  const { answer } = vault.server;
  try {
    for (const [certificate, chain, message] of answers) {
      vault.server.answer = (request) =>
        request.path.includes('/sign/')
          ? { status: 200, body: { data: { certificate, ca_chain: chain } } }
          : answer(request);
      await assert.rejects(signWeb(opened), { message });
    }
  } finally {
    vault.server.answer = answer;
  }
  await signWeb(opened);
});

test('a request of a node that asks for more than its identity never reaches the issuer', async () => {
  const asked = vault.signed();
  for (const identity of [api, `spiffe://${trustDomain}/culvert/controller`]) {
    const { csrPem } = await createCsr({ identity });
    await assert.rejects(signWeb(opened, csrPem), { code: 'CSR_INVALID', message: /other names/ });
  }
  assert.equal(vault.signed(), asked);
  assert.equal(opened.ca.external?.problem, null, 'what a node sends is no problem of the issuer');
  // An agent of an earlier version names its node there, and the issuer is told the identity in another way.
  const { csrPem } = await createCsr({ commonName: hostA });
  await opened.ca.signNode({ csrPem, node: hostA });
});

const misbehaviours: readonly [Misbehaviour, code: string, message: RegExp][] = [
  ['garbage', 'ISSUER_ANSWER', /it is no JSON/],
  ['endless', 'ISSUER_ANSWER', /larger than/],
  ['redirect', 'ISSUER_ANSWER', /redirects to https:\/\/evil\.test.* not followed/],
];
for (const [how, code, message] of misbehaviours) {
  test(`an answer that is ${how} ends as an error that says so`, async () => {
    vault.server.misbehaves = how;
    try {
      await assert.rejects(signWeb(opened), { code, message });
    } finally {
      vault.server.misbehaves = null;
    }
    await signWeb(opened);
  });
}

test('while an issuer is silent, a node is answered in time, the event loop runs, and others are not asked for more', async () => {
  const { ca } = opened;
  vault.server.misbehaves = 'silent';
  vault.server.mostRunning = 0;
  const service = new SignService({
    ca,
    isRegistered: () => true,
    trustDomain,
    log: silentLog,
    onSigned: () => assert.fail('nothing was signed'),
    onRefused: () => undefined,
  });
  let turns = 0;
  const timer = setInterval(() => turns++, 10);
  try {
    const requests = await Promise.all(
      Array.from({ length: 40 }, async () => ({ identity: web, csrPem: (await createCsr({ identity: web })).csrPem })),
    );
    const { certificates } = await service.sign(hostA, { requests });
    assert.equal(certificates.length, 40);
    assert.ok(certificates.every((result) => 'error' in result && result.error.code === 'ISSUER_FAILED'));
    assert.ok(vault.server.mostRunning <= 16, `${vault.server.mostRunning} at the same time`);
    assert.ok(turns > 20, `${turns} turns`);
    assert.match(ca.external?.problem ?? '', /did not answer in time/);
  } finally {
    clearInterval(timer);
    vault.server.misbehaves = null;
  }
});
