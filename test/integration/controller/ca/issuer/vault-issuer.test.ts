import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { inspect } from 'node:util';
import type { ControllerSettings } from '../../../../../controller/config/settings.js';
import { HttpsServer } from '../../../../../controller/ca/issuer/https-server.js';
import { IssuerUnready } from '../../../../../controller/ca/issuer/issuer-error.js';
import { openIssuer } from '../../../../../controller/ca/issuer/open-issuer.js';
import { VaultSession } from '../../../../../controller/ca/issuer/vault-session.js';
import { CulvertError } from '../../../../../shared/errors.js';
import { createCsr } from '../../../../../shared/pki/certificate-request.js';
import { settingsWith, trustDomain, vaultSettings, web } from '../../../../support/issuer/external-mesh.js';
import { FakeVault } from '../../../../support/issuer/fake-vault.js';

let vault: FakeVault;
before(async () => {
  vault = await FakeVault.start(trustDomain);
});
after(() => vault[Symbol.asyncDispose]());

const signal = new AbortController().signal;

async function sign(settings: ControllerSettings): Promise<string> {
  const issuer = openIssuer(settings, { trustDomain, nowMs: Date.now });
  assert.ok(issuer !== null);
  try {
    const { csrPem } = await createCsr({ identity: web });
    const ttlMs = 3_600_000;
    return await issuer.sign({ kind: 'workload', csrPem, uris: [web], dnsNames: [], ipAddresses: [], ttlMs }, signal);
  } finally {
    issuer.close();
  }
}

test('each refusal of Vault is an error that says what to do', async () => {
  const settings = await vaultSettings(vault, '/nowhere');
  const rows: readonly [set: () => void, unset: () => void, code: string, message: RegExp, hint: RegExp][] = [
    [() => (vault.isSealed = true), () => (vault.isSealed = false), 'ISSUER_SEALED', /Vault is sealed/, /unseal it/],
    [() => (vault.status = 429), () => (vault.status = null), 'ISSUER_BUSY', /429/, /quota/],
    [() => (vault.status = 500), () => (vault.status = null), 'ISSUER_FAILED', /500/, /its log/],
    [() => (vault.namespace = 'team'), () => (vault.namespace = null), 'ISSUER_CREDENTIAL', /no handler/, /token/],
    [
      () => (vault.refusal = `URI SAN ${web} not allowed by this role`),
      () => (vault.refusal = null),
      'ISSUER_REFUSED',
      /not allowed by this role/,
      /allowed_uri_sans/,
    ],
    [
      () => (vault.refusal = 'the common_name field is required, or must be provided'),
      () => (vault.refusal = null),
      'ISSUER_REFUSED',
      /common_name/,
      /require_cn=false/,
    ],
    [
      () => (vault.refusal = 'cannot satisfy request, as TTL would result in notAfter beyond the CA'),
      () => (vault.refusal = null),
      'ISSUER_REFUSED',
      /notAfter/,
      /the CA of the mount ends/,
    ],
  ];
  for (const [set, unset, code, message, hint] of rows) {
    set();
    await assert.rejects(sign(settings), { code, message, hint });
    unset();
  }
  await assert.rejects(sign({ ...settings, vaultRole: 'other' }), { code: 'ISSUER_REFUSED', hint: /--vault-role/ });
  const cannotSign = await vault.server.file('weak', vault.token({ canSign: false }));
  await assert.rejects(sign({ ...settings, issuerCredentialFile: cannotSign }), {
    code: 'ISSUER_DENIED',
    hint: /path "pki\/sign\/culvert-workload" \{ capabilities = \["update"\] \}/,
  });
  await assert.rejects(sign({ ...settings, issuerCaFile: null }), { code: 'ISSUER_UNTRUSTED', hint: /issuer-ca-file/ });
  await assert.rejects(sign({ ...settings, issuerCaFile: '/nowhere' }), { code: 'ISSUER_CREDENTIAL' });
  await assert.rejects(sign({ ...settings, issuerCredentialFile: '/nowhere' }), { code: 'ISSUER_CREDENTIAL' });
  for (const vaultAddress of ['http://127.0.0.1:8200', 'https://user:secret@127.0.0.1', 'vault']) {
    assert.throws(() => openIssuer({ ...settings, vaultAddress }, { trustDomain, nowMs: Date.now }), {
      code: 'CONFIG_INVALID',
    });
  }
  for (const vaultMount of ['../sys', 'pki/../../sys', 'a b', '']) {
    assert.throws(() => openIssuer({ ...settings, vaultMount }, { trustDomain, nowMs: Date.now }), {
      code: 'CONFIG_INVALID',
    });
  }
});

test('each method of login signs, in a namespace too, and sends the credential nowhere else', async () => {
  const base = settingsWith('/nowhere', {
    issuer: 'vault',
    vaultAddress: vault.server.url,
    issuerCaFile: vault.server.caFile,
  });
  const token = await vault.server.file('token-1', `${vault.token()}\nsecond line\n`);
  const secretId = await vault.server.file('secret-id', `${vault.secretId}\n`);
  const jwt = await vault.server.file('jwt', vault.jwt);
  await sign({ ...base, issuerCredentialFile: token });
  await sign({ ...base, vaultAuth: 'approle', vaultAuthRole: vault.roleId, issuerCredentialFile: secretId });
  await sign({ ...base, vaultAuth: 'kubernetes', vaultAuthRole: 'culvert', issuerCredentialFile: jwt });
  vault.namespace = 'platform/culvert';
  await sign({ ...base, issuerCredentialFile: token, vaultNamespace: 'platform/culvert' });
  vault.namespace = null;
  await assert.rejects(
    sign({ ...base, vaultAuth: 'approle', vaultAuthRole: 'wrong', issuerCredentialFile: secretId }),
    { code: 'ISSUER_CREDENTIAL', hint: /--vault-auth-role/ },
  );
  assert.ok(vault.server.heard.every(({ headers }) => headers['x-vault-request'] === 'true'));
  assert.ok(vault.server.heard.every(({ path }) => !path.includes(vault.secretId) && !path.includes('hvs.')));
});

test('a credential that the answer quotes is not in the error, and the time to wait is', async () => {
  const base = settingsWith('/nowhere', {
    issuer: 'vault',
    vaultAddress: vault.server.url,
    issuerCaFile: vault.server.caFile,
  });
  const token = vault.token();
  const [secretId, jwt] = ['secret-of-the-approle', 'eyJhbGciOi.of-the-account'];
  const logins: readonly [ControllerSettings, secret: string][] = [
    [{ ...base, issuerCredentialFile: await vault.server.file('token-2', token) }, token],
    [
      {
        ...base,
        vaultAuth: 'approle',
        vaultAuthRole: 'r',
        issuerCredentialFile: await vault.server.file('id', secretId),
      },
      secretId,
    ],
    [
      {
        ...base,
        vaultAuth: 'kubernetes',
        vaultAuthRole: 'r',
        issuerCredentialFile: await vault.server.file('jwt-2', jwt),
      },
      jwt,
    ],
  ];
  const { answer } = vault.server;
  try {
    for (const [settings, secret] of logins) {
      for (const status of [307, 400, 403, 429, 503]) {
        const headers = { 'retry-after': '7', location: `https://login.test/?who=${secret}` };
        vault.server.answer = () => ({ status, headers, body: { errors: [`cannot use ${secret}, twice: ${secret}`] } });
        const error = await sign(settings).catch((thrown: unknown) => thrown);
        assert.ok(error instanceof CulvertError && !inspect(error, { depth: 9 }).includes(secret), inspect(error));
        assert.match(error.message, /\[credential\]/);
        if (status > 403) assert.ok(error instanceof IssuerUnready && error.retryAfterMs === 7000);
      }
    }
  } finally {
    vault.server.answer = answer;
  }
});

function session(o: { method: 'token' | 'approle'; credential: string; nowMs: () => number }): VaultSession {
  const server = new HttpsServer({ name: 'Vault', url: new URL(vault.server.url), caFile: vault.server.caFile });
  const { method, credential } = o;
  const login = { method, mount: 'approle', role: vault.roleId, credential };
  return new VaultSession({ server, headers: {}, login, monotonicMs: o.nowMs });
}

function asked(path: string): number {
  return vault.server.heard.filter((request) => request.path === path).length;
}

test('a token is renewed at half of its life, one login serves all who wait, and it is done again near max_ttl', async () => {
  vault.lifeMs = 3_600_000;
  vault.maxLifeMs = 3 * 3_600_000;
  let now = 0;
  const credential = await vault.server.file('secret-id', vault.secretId);
  const own = session({ method: 'approle', credential, nowMs: () => now });
  const logins = asked('/v1/auth/approle/login');
  const renewals = asked('/v1/auth/token/renew-self');
  const [first, again] = await Promise.all([own.token(signal), own.token(signal)]);
  assert.equal(first, again);
  assert.equal(asked('/v1/auth/approle/login') - logins, 1);
  now += 1_900_000;
  assert.equal(await own.token(signal), first);
  assert.equal(asked('/v1/auth/token/renew-self') - renewals, 1);

  // A renewal that gives less than half of the life: the token nears its end for good.
  const held = vault.tokens.get(first);
  assert.ok(held !== undefined);
  held.maxEndsAtMs = Date.now() + 600_000;
  now += 1_900_000;
  const second = await own.token(signal);
  assert.notEqual(second, first);

  // Revoked in Vault: refused once, then another login.
  vault.tokens.delete(second);
  own.forget(second);
  assert.notEqual(await own.token(signal), second);

  now += 10 * 3_600_000;
  await own.maintain(signal);
});

test('a token in a file is taken as soon as it is replaced, and one that nothing can renew is an alarm in time', async () => {
  let now = 0;
  const first = vault.token();
  const credential = await vault.server.file('token-2', first);
  const own = session({ method: 'token', credential, nowMs: () => now });
  assert.equal(await own.token(signal), first);
  const second = vault.token({ lifeMs: 3_600_000, isRenewable: false });
  await vault.server.file('token-2', `${second}\n`);
  assert.equal(await own.token(signal), second);
  await assert.rejects(own.maintain(signal), {
    code: 'ISSUER_CREDENTIAL',
    message: /ends in 60 minutes/,
    hint: /-period/,
  });
  const periodic = vault.token({ lifeMs: 3_600_000, maxLifeMs: 1e12 });
  await vault.server.file('token-2', periodic);
  await own.maintain(signal);
  now += 2_000_000;
  await own.maintain(signal);
  await vault.server.file('token-2', 'hvs.unknown');
  await assert.rejects(own.token(signal), { code: 'ISSUER_CREDENTIAL', message: /invalid token/ });
  await vault.server.file('token-2', '');
  await assert.rejects(own.token(signal), { code: 'ISSUER_CREDENTIAL', message: /is empty/ });
});
