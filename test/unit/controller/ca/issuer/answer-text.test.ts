import assert from 'node:assert/strict';
import { test } from 'node:test';
import { retryAfterMsOf, secretsOf, withoutSecrets } from '../../../../../controller/ca/issuer/answer-text.js';

test('Retry-After is seconds or a date, ten minutes at most, and nothing else', () => {
  const nowMs = Date.parse('2026-11-29T12:00:00Z');
  const rows: readonly [header: string | undefined, waitMs: number | null][] = [
    [undefined, null],
    ['', null],
    ['soon', null],
    ['-3', null],
    ['0', 0],
    [' 7 ', 7000],
    ['86400', 600_000],
    ['99999999999999999999', null],
    ['Sun, 29 Nov 2026 12:00:30 GMT', 30_000],
    ['Sun, 29 Nov 2026 11:00:00 GMT', 0],
    ['Wed, 29 Nov 2028 12:00:00 GMT', 600_000],
  ];
  for (const [header, waitMs] of rows) assert.equal(retryAfterMsOf(header, nowMs), waitMs, header);
});

test('secrets of the request are taken out of texts, and words are left', () => {
  const secrets = secretsOf(
    { authorization: 'Bearer token-of-the-pod', accept: 'json' },
    { jwt: 'jwt-of-the-pod', role: 'r', secret_id: 'pod' },
  );
  assert.deepEqual(secrets, ['token-of-the-pod', 'pod', 'jwt-of-the-pod']);
  const clean = withoutSecrets(secrets);
  assert.equal(clean('pod: jwt-of-the-pod, token-of-the-pod'), 'pod: [credential], [credential]');
  assert.deepEqual(secretsOf({ 'x-vault-token': 'hvs.1' }, undefined), ['hvs.1']);
});
