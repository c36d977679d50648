import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KubernetesError } from '../../../../controller/kubernetes/kubernetes-error.js';
import { WritePauses } from '../../../../controller/kubernetes/write-pauses.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';

const away = new KubernetesError({ message: 'the Kubernetes API does not answer', hint: '' });
const refused = new KubernetesError({ status: 503, message: 'the Kubernetes API answered 503', hint: '' });

/** How long each pause is, one failure after the other. */
function pausesAfter(failures: readonly Error[]): readonly number[] {
  let nowMs = 0;
  const pauses = new WritePauses({
    what: 'events',
    log: silentLog,
    firstMs: 1000,
    longestMs: 60_000,
    elapsedMs: () => nowMs,
  });
  return failures.map((failure) => {
    pauses.failed(failure);
    const sinceMs = nowMs;
    while (pauses.isPausing) nowMs += 500;
    return nowMs - sinceMs;
  });
}

test('a server that refuses is spared longer and longer, one that is away is looked for every 5 s', () => {
  const times = <T>(count: number, each: T): readonly T[] => Array.from({ length: count }, () => each);
  assert.deepEqual(pausesAfter(times(8, refused)), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  assert.deepEqual(pausesAfter(times(8, away)), [1000, 2000, 4000, 5000, 5000, 5000, 5000, 5000]);
});

test('a server that comes back and refuses at first is asked again after a second', () => {
  assert.deepEqual(pausesAfter([away, away, away, away, refused, refused]), [1000, 2000, 4000, 5000, 1000, 2000]);
  const now = [refused, away, refused, away, refused, away, refused];
  assert.deepEqual(pausesAfter(now), [1000, 2000, 1000, 2000, 4000, 5000, 16_000], 'one that is overloaded is spared');
});
