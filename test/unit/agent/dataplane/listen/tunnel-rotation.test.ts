import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TunnelRotation } from '../../../../../agent/dataplane/listen/tunnel-rotation.js';

function countsOf(chosen: readonly (number | null)[]): readonly number[] {
  return [null, 0, 2].map((worker) => chosen.filter((each) => each === worker).length);
}

test('the tunnels of each peer are spread evenly, however those of others come between', () => {
  const rotation = new TunnelRotation({ own: 1 });
  const of: Record<string, (number | null)[]> = { a: [], b: [] };
  for (let i = 0; i < 6; i++) for (const peer of ['a', 'b']) of[peer]!.push(rotation.next(peer, [0, 2]));
  for (const chosen of Object.values(of)) assert.deepEqual(countsOf(chosen), [2, 2, 2]);
});

test('peers with one tunnel each are spread too, also more of them than it remembers', () => {
  const rotation = new TunnelRotation({ own: 1 });
  const chosen = Array.from({ length: 9000 }, (_, index) => rotation.next(`peer ${index}`, [0, 2]));
  for (const count of countsOf(chosen)) assert.ok(Math.abs(count - 3000) < 10, String(count));
});

test('alone, and when others go, it chooses who is there', () => {
  const rotation = new TunnelRotation({ own: 1 });
  assert.equal(rotation.next('a', []), null);
  const chosen = [rotation.next('a', [0]), rotation.next('a', [0]), rotation.next('a', [])];
  assert.deepEqual(new Set(chosen), new Set([0, null]));
  assert.equal(chosen[2], null);
});
