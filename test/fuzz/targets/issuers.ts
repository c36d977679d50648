import assert from 'node:assert/strict';
import { outcomeOf as statusOf, requestSchema } from '../../../controller/ca/issuer/certificate-request-status.js';
import { rootsAmong } from '../../../controller/ca/issuer/issuer-roots.js';
import { verifyIssued } from '../../../controller/ca/issuer/verify-issued.js';
import { splitCertificates } from '../../../shared/pki/pem.js';
import { TestCa, clientIdentity } from '../../support/tunnel/tunnel-certificates.js';
import { once, type FuzzTarget } from '../target.js';

const ca = once(() => TestCa.create());
/** Of no certificate. */
const spki = new Uint8Array(91);

export const issuerTarget: FuzzTarget = {
  name: 'issuer-answers',
  reads: 'certificates and requests that an issuer elsewhere gives',
  seeds: async () => {
    const { certificates } = await (await ca()).issue(clientIdentity);
    const chainPem = certificates[0]?.chainPem ?? '';
    const conditions = [{ type: 'Ready', status: 'True', reason: 'Issued' }];
    const status = { conditions, certificate: Buffer.from(chainPem).toString('base64'), ca: '' };
    return [chainPem, JSON.stringify({ metadata: { name: 'a' }, status })].map((text) => Buffer.from(text));
  },
  words: ['-----BEGIN CERTIFICATE-----', '-----END CERTIFICATE-----', '"status":"False"', '"type":"Denied"', 'null'],
  check: async (input) => {
    const text = Buffer.from(input).toString('latin1');
    const rootsPem = (await ca()).root.certificatePem;
    const names = [`uri ${clientIdentity}`];
    const expected = { kind: 'workload', names, spki, rootsPem, ttlMs: 1000, nowMs: Date.now() } as const;
    assert.throws(() => verifyIssued(text, expected), { code: 'ISSUER_UNFIT' });
    const read = requestSchema.safeParse(jsonOf(text));
    const state = read.success ? statusOf(read.data).state : 'no request';
    return `${state} ${String(countOf(() => rootsAmong(text)))}`;
  },
};

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Null: something in it is no certificate, which callers take for no root. */
function countOf(read: () => string): number | null {
  try {
    return splitCertificates(read()).length;
  } catch {
    return null;
  }
}
