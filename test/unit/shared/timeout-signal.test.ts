import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { timeoutSignal } from '../../../shared/timeout-signal.js';

test('a deadline that is combined with other signals comes, also after the garbage was collected', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const lasting = new AbortController();
  const combined = () => AbortSignal.any([lasting.signal, timeoutSignal(300)]);
  const aborts: readonly (() => Promise<unknown>)[] = [
    () => once(combined(), 'abort'),
    () => once(AbortSignal.any([new AbortController().signal, combined()]), 'abort'),
    () => delay(60_000, undefined, { signal: combined() }).catch((error: Error) => error),
  ];
  let came = 0;
  for (const abort of aborts) void abort().then(() => came++);
  for (let times = 0; times < 5; times++) {
    await delay(30);
    collect();
  }
  // One that nothing combines comes later than all of those.
  const last = timeoutSignal(500);
  const stop = setInterval(() => undefined, 1000);
  await once(last, 'abort');
  clearInterval(stop);
  assert.equal(came, aborts.length);
  assert.equal((last.reason as Error).name, 'TimeoutError');
});
