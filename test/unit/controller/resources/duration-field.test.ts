import assert from 'node:assert/strict';
import { test } from 'node:test';
import { durationField, durationMs, takenDurationMs } from '../../../../controller/resources/kinds/duration-field.js';

for (const [text, ms] of [
  ['0', 0],
  ['0s', 0],
  ['1s', 1000],
  ['250ms', 250],
  ['1h30m', 5_400_000],
  ['1m1s1ms', 61_001],
  ['0.5s', 500],
  ['1.5h', 5_400_000],
  ['0.0001s', undefined],
  ['1', undefined],
  ['s', undefined],
  ['-1s', undefined],
  ['1d', undefined],
  ['1s ', undefined],
  ['5us', undefined],
  ['', undefined],
] as const) {
  test(`the duration "${text}" of a document is ${ms ?? 'none'}`, () => {
    assert.equal(durationMs(text), ms);
    assert.equal(durationField('1s', 1).safeParse(text).success, (ms ?? 0) >= 1);
    if (ms === undefined) assert.throws(() => takenDurationMs(text), /takes no duration/);
    else assert.equal(takenDurationMs(text), ms);
  });
}

test('a duration of a document is one that a timer can wait for', () => {
  assert.equal(durationField('1s', 1).safeParse('576h').success, true);
  assert.match(String(durationField('1s', 1).safeParse('576h1ms').error), /at most 576h/);
});
