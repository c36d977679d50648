import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Episodes } from '../../../../controller/fleet/episodes.js';

test('what happens again and again begins once, and again after a quiet minute', () => {
  const clock = { nowMs: 1_000_000 };
  const episodes = new Episodes({ nowMs: () => clock.nowMs });
  const begins: boolean[] = [];
  for (let second = 0; second < 180; second++) {
    begins.push(episodes.begins('a'));
    clock.nowMs += 1000;
  }
  assert.deepEqual([begins[0], begins.filter(Boolean).length], [true, 1]);
  assert.ok(episodes.begins('b'), 'another one');
  clock.nowMs += 59_000;
  assert.ok(episodes.begins('a'));
});
