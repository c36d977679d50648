import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nearestName } from '../../../shared/nearest-name.js';

describe('the name that was probably meant', () => {
  for (const [written, candidates, meant] of [
    ['ruel', ['rl', 'rule', 'rules', 'role'], 'rule'],
    ['servcie', ['service', 'services'], 'service'],
    ['Mesh', ['mesh'], 'mesh'],
    ['form', ['from', 'ports'], 'from'],
    ['namspace', ['Namespace'], 'Namespace'],
    ['ab', ['ba', 'abc'], 'ba'],
    ['x', ['y'], 'y'],
    ['ruel', ['rl'], undefined],
    ['database', ['web', 'cache'], undefined],
    ['', ['a'], undefined],
  ] as const) {
    it(`of ${candidates.join(', ')} is ${meant ?? 'none'} for "${written}"`, () => {
      assert.equal(nearestName(written, candidates), meant);
    });
  }
});
