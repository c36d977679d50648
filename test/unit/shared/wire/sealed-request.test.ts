import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createIssuingCa, createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { issueNodeCertificate, issueWorkloadCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';
import { nodeSpiffeId, type SpiffeId } from '../../../../shared/identity.js';
import { openRequest, sealRequest, type NodeKey } from '../../../../shared/wire/sealed-request.js';
import { nodeNamed } from '../../../support/routing/names.js';

const trustDomain = 'mesh.test';
const hourMs = 3_600_000;
const root = await createRootCa({ trustDomain });
const issuer = await createIssuingCa({ root, trustDomain });
const nodeKey = await nodeKeyOf('node1');
const subject = 'culvert.v1.sign.node1';
const body = { requests: [{ identity: 'x' }] };
const expected = {
  subject,
  spiffeId: nodeSpiffeId(trustDomain, nodeNamed('node1')),
  rootsPem: root.rootPem,
  nowMs: Date.now(),
};

async function nodeKeyOf(node: string, ttlMs = hourMs, authority = issuer): Promise<NodeKey> {
  const { csrPem, privateKeyPem } = await createCsr({ commonName: node });
  const { chainPem } = await issueNodeCertificate({
    issuer: authority,
    csrPem,
    trustDomain,
    node: nodeNamed(node),
    ttlMs,
  });
  return { nodeCertificatePem: chainPem, nodeKeyPem: privateKeyPem };
}

test('a request opens for the node that signed it, and two that ask the same are two', () => {
  const bytes = sealRequest({ subject, body, nodeKey });
  const opened = JSON.parse(Buffer.from(openRequest({ ...expected, bytes })).toString()) as object;
  assert.deepEqual({ ...opened, nonce: '' }, { ...body, nonce: '' });
  assert.notDeepEqual(sealRequest({ subject, body, nodeKey }), bytes);
});

test('a request by another key, under another certificate or on another subject proves nothing', async () => {
  const foreignRoot = await createRootCa({ trustDomain });
  const foreign = await createIssuingCa({ root: foreignRoot, trustDomain });
  const other = await nodeKeyOf('node2');
  const { csrPem, privateKeyPem } = await createCsr({ commonName: 'web' });
  const identity = `spiffe://${trustDomain}/ns/shop/sa/web` as SpiffeId;
  const workload = await issueWorkloadCertificate({ issuer, csrPem, identity, ttlMs: hourMs });
  const refused: [what: string, problem: RegExp, bytes: Uint8Array, part?: Partial<typeof expected>][] = [
    [
      "another node's key beside the right certificate",
      /signature is wrong/,
      sealRequest({ subject, body, nodeKey: { ...nodeKey, nodeKeyPem: other.nodeKeyPem } }),
    ],
    ['another node', /not for spiffe/, sealRequest({ subject, body, nodeKey: other })],
    [
      'a workload of that node',
      /not for spiffe/,
      sealRequest({ subject, body, nodeKey: { nodeCertificatePem: workload.chainPem, nodeKeyPem: privateKeyPem } }),
    ],
    [
      'a foreign CA',
      /not issued by a CA of this mesh/,
      sealRequest({ subject, body, nodeKey: await nodeKeyOf('node1', hourMs, foreign) }),
    ],
    ['another verb', /signature is wrong/, sealRequest({ subject: 'culvert.v1.renew.node1', body, nodeKey })],
    [
      'an expired certificate',
      /not valid now/,
      sealRequest({ subject, body, nodeKey }),
      { nowMs: Date.now() + 2 * hourMs },
    ],
    ['a clock of long ago', /not valid now/, sealRequest({ subject, body, nodeKey }), { nowMs: 0 }],
  ];
  for (const [what, problem, bytes, part] of refused) {
    assert.throws(
      () => openRequest({ ...expected, ...part, bytes }),
      (error: Error & { code?: string }) => error.code === 'REQUEST_UNPROVEN' && problem.test(error.message),
      what,
    );
  }
});

test('a changed payload proves nothing, and what is no sealed request is refused as malformed', () => {
  const envelope = JSON.parse(Buffer.from(sealRequest({ subject, body, nodeKey })).toString()) as object;
  const payload = Buffer.from(JSON.stringify({ requests: [] })).toString('base64');
  const changed = Buffer.from(JSON.stringify({ ...envelope, payload }));
  assert.throws(() => openRequest({ ...expected, bytes: changed }), { code: 'REQUEST_UNPROVEN' });
  for (const bytes of [Buffer.from('{"requests":[]}'), Buffer.from('nonsense'), Buffer.alloc(0)]) {
    assert.throws(() => openRequest({ ...expected, bytes }), { code: 'WIRE_INVALID' });
  }
});
