import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { z } from 'zod';
import { callController } from '../../../agent/control/join/controller-client.js';
import { createRootCa } from '../../../controller/ca/x509/certificate-authority.js';
import { createServerCsr, issueServerCertificate } from '../../../controller/ca/x509/mesh-certificates.js';
import { ApiClient } from '../../../controller/cli/client/api-client.js';

const dayMs = 86_400_000;
const nowMs = Date.now();
const day = (days: number): string => new Date(nowMs + days * dayMs).toISOString().slice(0, 10);

type Ages = { readonly rootDays: readonly [from: number, to: number]; readonly leafDays: readonly [number, number] };

/** A controller whose certificates are valid between these days from now; nothing may be asked of it. */
async function controllerOf({ rootDays, leafDays }: Ages) {
  const at = (days: number): number => nowMs + days * dayMs;
  const root = await createRootCa({
    trustDomain: 'clock.test',
    now: at(rootDays[0]),
    validForMs: at(rootDays[1]) - at(rootDays[0]),
  });
  const names = { dnsNames: [], ipAddresses: ['127.0.0.1'] };
  const { csrPem, privateKeyPem: key } = await createServerCsr(names);
  const { chainPem: cert } = await issueServerCertificate({
    issuer: root,
    csrPem,
    now: at(leafDays[0]),
    ttlMs: at(leafDays[1]) - at(leafDays[0]),
    ...names,
  });
  const server = createServer({ cert, key }, () => assert.fail('a request with a token was sent'));
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return {
    url,
    caPem: root.rootPem,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

const cases: Readonly<Record<string, Ages & { readonly says: string; readonly hint: RegExp }>> = {
  'a certificate that was not renewed': {
    rootDays: [-60, 60],
    leafDays: [-40, -10],
    says: `: it is valid from ${day(-40)}T[^ ]* to ${day(-10)}T[^ ]*, and the time of this machine is ${day(0)}T`,
    hint: /the time of this machine.*if it is right, look at the time and the log of the controller/,
  },
  'a certificate that is not valid yet': {
    rootDays: [-1, 60],
    leafDays: [10, 20],
    says: `: it is valid from ${day(10)}T[^ ]* to ${day(20)}T[^ ]*, and the time of this machine is ${day(0)}T`,
    hint: /the time of this machine.*if it is right, look at the time and the log of the controller/,
  },
  'a mesh that was made later than now': {
    rootDays: [10, 60],
    leafDays: [10, 20],
    says: `: its CA is valid from ${day(10)}T[^ ]* to ${day(60)}T[^ ]*, and the time of this machine is ${day(0)}T`,
    hint: /the time of this machine.*if it is right, look at the time and the log of the controller/,
  },
  'a context file with an old CA': {
    rootDays: [-100, -50],
    leafDays: [-100, -60],
    says: `: its CA is valid from ${day(-100)}T[^ ]* to ${day(-50)}T[^ ]*, and the time of this machine is ${day(0)}T`,
    hint: /the time of this machine.*if it is right, the context file is too old: .*culvert user renew/,
  },
};

for (const [what, { says, hint, ...ages }] of Object.entries(cases)) {
  test(`${what} is refused with its dates and the time of this machine`, async () => {
    await using controller = await controllerOf(ages);
    const { url, caPem } = controller;
    const client = new ApiClient({ context: { url, caPem, token: 'secret' } });
    const message = new RegExp(`^the certificate of ${url.origin} is not trusted \\(CERT_[A-Z_]+\\)${says}`);
    await assert.rejects(client.call({ method: 'GET', path: ['status'] }), { code: 'UNTRUSTED', message, hint });
    const asAgent = callController({
      url,
      trust: { rootPem: caPem },
      body: { token: 'secret' },
      schema: z.unknown(),
      signal: new AbortController().signal,
    });
    await assert.rejects(asAgent, {
      code: 'CONTROLLER_UNTRUSTED',
      message: new RegExp(`is not trusted${says}`),
      hint: /set the time of this host or of the controller/,
    });
  });
}
