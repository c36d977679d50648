import assert from 'node:assert/strict';
import { test } from 'node:test';
import { awaitedBy } from '../../../../agent/control/workloads/held-workload.js';
import { workloadNamed } from '../../../support/routing/names.js';

const nowMs = 1_800_000_000_000;
const came = (name: string, agoMs: number) => ({ name: workloadNamed(`shop/${name}`), sinceMs: nowMs - agoMs });

test('a new workload waits for another that came with it, for two seconds after it came itself', () => {
  const awaited = (ready: number[], coming: number[]): readonly [string, number] | null => {
    const found = awaitedBy({
      ready: ready.map((agoMs, index) => came(`ready${index}`, agoMs)),
      coming: coming.map((agoMs, index) => came(`coming${index}`, agoMs)),
      nowMs,
    });
    return found === null ? null : [found.name, found.forMs];
  };
  assert.deepEqual(awaited([300], [200]), ['shop/coming0', 1700]);
  assert.deepEqual(awaited([300, 900], [5000, 200]), ['shop/coming1', 1100]);
  assert.equal(awaited([300], []), null, 'no other one');
  assert.equal(awaited([], [200]), null, 'none that waits');
  assert.equal(awaited([300], [2000]), null, 'the other one is late');
  assert.equal(awaited([2000], [200]), null, 'however many more come, it has waited long enough');
});
