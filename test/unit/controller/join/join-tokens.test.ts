import assert from 'node:assert/strict';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import { FailureLimiter } from '../../../../controller/join/failure-limiter.js';
import { JoinTokens } from '../../../../controller/join/join-tokens.js';
import { nodeNamed } from '../../../support/routing/names.js';

const log = pino({ level: 'silent' });
const caHash = 'a'.repeat(64);

async function withTokens(
  run: (o: { tokens: JoinTokens; file: string; clock: { nowMs: number } }) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-tokens-'));
  const clock = { nowMs: 1_000_000 };
  const file = path.join(directory, 'tokens.json');
  try {
    await run({
      tokens: await JoinTokens.open({ path: file, nowMs: () => clock.nowMs, caHash: () => caHash, log }),
      file,
      clock,
    });
  } finally {
    await chmod(directory, 0o700);
    await rm(directory, { recursive: true });
  }
}

const request = { node: nodeNamed('host-a'), ttlMs: 60_000, createdBy: 'admin' };

test('a token names the CA and can be used once, however many try at the same time', async () => {
  await withTokens(async ({ tokens }) => {
    const { token, expiresAtMs } = await tokens.create(request);
    assert.match(token, new RegExp(`^culvert1\\.[0-9a-f]{12}\\.[0-9a-f]{48}\\.${caHash}$`));
    assert.equal(expiresAtMs, 1_060_000);
    assert.equal(tokens.usable, 1);
    const results = await Promise.all(Array.from({ length: 50 }, () => tokens.redeem(token, nodeNamed('host-a'))));
    assert.equal(results.filter((result) => result.ok).length, 1);
    assert.ok(results.every((result) => result.ok || result.refusal === 'TOKEN_USED'));
    assert.equal(tokens.usable, 0);
  });
});

test('each refusal has its own reason, and only success uses a token up', async () => {
  await withTokens(async ({ tokens, clock }) => {
    const { token } = await tokens.create(request);
    const [prefix = '', id = '', secret = ''] = token.split('.');
    const cases = [
      ['', 'host-a', 'TOKEN_MALFORMED'],
      [`${token} `, 'host-a', 'TOKEN_MALFORMED'],
      [`culvert2.${id}.${secret}.${caHash}`, 'host-a', 'TOKEN_MALFORMED'],
      [`${prefix}.${'f'.repeat(12)}.${secret}.${caHash}`, 'host-a', 'TOKEN_UNKNOWN'],
      [`${prefix}.${id}.${'f'.repeat(48)}.${caHash}`, 'host-a', 'TOKEN_UNKNOWN'],
      [token, 'host-b', 'TOKEN_WRONG_NODE'],
    ] as const;
    for (const [text, node, refusal] of cases) {
      assert.deepEqual(await tokens.redeem(text, nodeNamed(node)), { ok: false, refusal }, `${text} ${node}`);
    }
    clock.nowMs += 59_999;
    assert.equal((await tokens.redeem(token, nodeNamed('host-a'))).ok, true);
    const second = await tokens.create(request);
    clock.nowMs += 60_000;
    assert.deepEqual(await tokens.redeem(second.token, nodeNamed('host-a')), { ok: false, refusal: 'TOKEN_EXPIRED' });
  });
});

test('a token of a root that signs no longer is listed as such, and ends with its node all the same', async () => {
  await withTokens(async ({ tokens, file, clock }) => {
    await tokens.create(request);
    const rotated = await JoinTokens.open({
      path: file,
      nowMs: () => clock.nowMs,
      caHash: () => 'b'.repeat(64),
      log,
    });
    assert.deepEqual([rotated.list().map(({ state }) => state), rotated.usable], [['old CA'], 0]);
    assert.equal(await rotated.revokeFor(nodeNamed('host-a')), 1);
    assert.deepEqual(
      rotated.list().map(({ state }) => state),
      ['revoked'],
    );
  });
});

test('a released token can be used again', async () => {
  await withTokens(async ({ tokens }) => {
    const { token } = await tokens.create(request);
    const first = await tokens.redeem(token, nodeNamed('host-a'));
    assert.ok(first.ok);
    await first.release();
    assert.equal((await tokens.redeem(token, nodeNamed('host-a'))).ok, true);
  });
});

test('the file holds no secret, remembers what was used, and forgets it after a day', async () => {
  await withTokens(async ({ tokens, file, clock }) => {
    const { token } = await tokens.create(request);
    await tokens.redeem(token, nodeNamed('host-a'));
    assert.ok(!(await readFile(file, 'utf8')).includes(token.split('.')[2] ?? ''));
    const reopened = await JoinTokens.open({ path: file, nowMs: () => clock.nowMs, caHash: () => caHash, log });
    assert.deepEqual(await reopened.redeem(token, nodeNamed('host-a')), { ok: false, refusal: 'TOKEN_USED' });
    clock.nowMs += 86_400_000 + 120_000;
    await reopened.create(request);
    assert.deepEqual(await reopened.redeem(token, nodeNamed('host-a')), { ok: false, refusal: 'TOKEN_UNKNOWN' });
  });
});

test('a source is limited after its failures and free again after the window', () => {
  let nowMs = 0;
  const limiter = new FailureLimiter({ maxFailures: 3, windowMs: 60_000, nowMs: () => nowMs });
  for (let count = 0; count < 3; count++) {
    assert.equal(limiter.waitMs('198.18.0.1'), 0);
    limiter.fail('198.18.0.1');
  }
  assert.equal(limiter.waitMs('198.18.0.1'), 60_000);
  assert.equal(limiter.waitMs('::ffff:198.18.0.1'), 60_000, 'the same source in its IPv4-mapped form');
  assert.equal(limiter.waitMs('198.18.0.2'), 0);
  nowMs = 60_000;
  assert.equal(limiter.waitMs('198.18.0.1'), 0);
  limiter.fail('198.18.0.1');
  assert.equal(limiter.waitMs('198.18.0.1'), 0, 'one failure of the new window');
});

test('a clock that is set back locks no host out for longer than the window', () => {
  let nowMs = 10_000_000;
  const limiter = new FailureLimiter({ maxFailures: 1, windowMs: 60_000, nowMs: () => nowMs });
  limiter.fail('198.18.0.1');
  nowMs = 0;
  assert.equal(limiter.waitMs('198.18.0.1'), 0);
  limiter.fail('198.18.0.1');
  assert.equal(limiter.waitMs('198.18.0.1'), 60_000, 'it counts from the start');
});

test('a damaged token file is moved aside, and what was in it is refused', async () => {
  await withTokens(async ({ tokens, file, clock }) => {
    const { token } = await tokens.create(request);
    for (const damage of ['{', '[{"id":1}]', 'null']) {
      await writeFile(file, damage);
      const opened = await JoinTokens.open({ path: file, nowMs: () => ++clock.nowMs, caHash: () => caHash, log });
      assert.deepEqual(await opened.redeem(token, nodeNamed('host-a')), { ok: false, refusal: 'TOKEN_UNKNOWN' });
      assert.equal(opened.usable, 0);
    }
    const aside = (await readdir(path.dirname(file))).filter((name) => name.includes('.corrupt-'));
    assert.equal(aside.length, 3);
  });
});

test('addresses of one IPv6 /64 are one source', () => {
  const limiter = new FailureLimiter({ maxFailures: 2, windowMs: 60_000, nowMs: () => 0 });
  limiter.fail('fd00:1:2:3::1');
  limiter.fail('fd00:1:2:3:ffff::2');
  assert.equal(limiter.waitMs('fd00:1:2:3::9'), 60_000);
  assert.equal(limiter.waitMs('fd00:1:2:4::9'), 0);
});
