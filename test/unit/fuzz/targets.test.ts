import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzHere } from '../../fuzz/corpus.js';
import { targets } from '../../fuzz/targets.js';
import { propertyRuns } from '../../support/property-runs.js';

for (const target of targets) {
  test(`nothing is found in ${target.name} by a few changes of right inputs`, async () => {
    const seed = Math.floor(Math.random() * 2 ** 32);
    const outcomes = await fuzzHere(target, { count: propertyRuns(400), seed }).catch((error: unknown) => {
      throw new Error(`found with seed ${seed}: npm run fuzz -- ${target.name}`, { cause: error });
    });
    assert.ok(outcomes > 1, 'the changes reach more than one answer');
  });
}
