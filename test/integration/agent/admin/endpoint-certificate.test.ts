import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { after, before, test } from 'node:test';
import { EndpointCertificate } from '../../../../agent/admin/endpoint-certificate.js';
import {
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from '../../../../controller/ca/x509/certificate-authority.js';
import { issueServerCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';
import { createLog } from '../../../../shared/log.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { listeningEndpoint } from '../../../support/agent/listening-endpoint.js';

let directory: string;
let root: CertificateAuthority;
let issuer: CertificateAuthority;
const lines: string[] = [];
const log = createLog({ name: 'test', level: 'info', stream: { write: (line) => lines.push(line) } });

before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'endpoint-'));
  root = await createRootCa({ trustDomain: 'mesh.test' });
  issuer = await createIssuingCa({ root, trustDomain: 'mesh.test' });
});
after(() => rm(directory, { recursive: true }));

const certificateFile = (): string => path.join(directory, 'cert.pem');
const keyFile = (): string => path.join(directory, 'key.pem');

async function writePair(name: string): Promise<void> {
  const { csrPem, privateKeyPem } = await createCsr({ commonName: name });
  const request = { issuer, csrPem, dnsNames: [name], ipAddresses: ['127.0.0.1'], ttlMs: 3_600_000 };
  const { chainPem } = await issueServerCertificate(request);
  await writeFile(certificateFile(), chainPem);
  await writeFile(keyFile(), privateKeyPem);
}

async function ask(port: number): Promise<{ readonly name: string; readonly body: string }> {
  const request = https.get({ host: '127.0.0.1', port, path: '/metrics', ca: root.certificatePem, agent: false });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const { subject } = (response.socket as TLSSocket).getPeerCertificate();
  return { name: String(subject.CN), body: await text(response) };
}

test('an endpoint with a certificate serves HTTPS, and takes the next one of its files without a restart', async () => {
  await writePair('first.test');
  using certificate = await EndpointCertificate.open({ certificateFile: certificateFile(), keyFile: keyFile(), log });
  await using endpoint = await listeningEndpoint({
    routes: { 'GET /metrics': () => ({ status: 200, body: 'x 1' }) },
    log,
    certificate,
  });
  assert.deepEqual(await ask(endpoint.port), { name: 'first.test', body: 'x 1' });
  await assert.rejects(fetch(`http://127.0.0.1:${endpoint.port}/metrics`), 'nothing is served in the clear');

  await writeFile(keyFile(), 'half written');
  await certificate?.reread();
  await certificate?.reread();
  assert.equal((await ask(endpoint.port)).name, 'first.test');
  assert.equal(lines.filter((line) => line.includes('cannot be used')).length, 1);
  await writePair('second.test');
  await certificate?.reread();
  assert.equal((await ask(endpoint.port)).name, 'second.test');
});

test('a certificate without its key, with another key or without a file stops the start and says why', async () => {
  await writePair('first.test');
  const other = await createCsr({ commonName: 'other' });
  const otherFile = path.join(directory, 'other.pem');
  await writeFile(otherFile, other.privateKeyPem);
  const cases = [
    [certificateFile(), null, /one of the two files is missing/],
    [certificateFile(), path.join(directory, 'none'), /there is no such file/],
    [certificateFile(), otherFile, /key values mismatch/i],
  ] as const;
  for (const [certificate, key, problem] of cases) {
    await assert.rejects(
      EndpointCertificate.open({ certificateFile: certificate, keyFile: key, log }),
      (error: Error & { code?: string }) => error.code === 'CONFIG_INVALID' && problem.test(error.message),
    );
  }
  assert.equal(await EndpointCertificate.open({ certificateFile: null, keyFile: null, log }), null);
});
