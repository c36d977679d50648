import assert from 'node:assert/strict';
import { test } from 'node:test';
import { learnsUninstalled } from '../../../../agent/control/followers/uninstalled.js';
import { timeoutSignal } from '../../../../shared/timeout-signal.js';

const fast = { withinMs: 200, everyMs: 5 } as const;
const { signal } = new AbortController();

test('an agent that is told a little later learns it, and looks no more', async () => {
  let looks = 0;
  const look = async (): Promise<boolean> => ++looks === 3;
  assert.equal(await learnsUninstalled({ ...fast, look, signal }), true);
  assert.equal(looks, 3);
});

test('nothing said, and a look that never ends, mean that the installation stays', async () => {
  assert.equal(await learnsUninstalled({ ...fast, look: async () => false, signal }), false);
  assert.equal(await learnsUninstalled({ ...fast, look: () => new Promise(() => undefined), signal }), false);
});

test('a second signal ends the wait', async () => {
  const startedAt = performance.now();
  const second = timeoutSignal(20);
  const asked = { look: () => new Promise<boolean>(() => undefined), signal: second, withinMs: 60_000 };
  assert.equal(await learnsUninstalled(asked), false);
  assert.ok(performance.now() - startedAt < 10_000);
});
