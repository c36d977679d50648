import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isMirrored, mirrorChoice, mirrorText } from '../../../../shared/routing/mirrors.js';
import { RandomChoices } from '../../../support/mesh/random-choices.js';

describe('the shadow of a route', () => {
  it('gets the share of the document', () => {
    const random = new RandomChoices({ seed: 14 });
    const times = 100_000;
    for (const percent of [0.5, 30, 99]) {
      let count = 0;
      for (let i = 0; i < times; i++) if (isMirrored({ percent, subset: null }, () => random.next())) count += 1;
      const share = percent / 100;
      // Three standard deviations; the seed is fixed.
      const tolerance = 3 * Math.sqrt(times * share * (1 - share));
      assert.ok(Math.abs(count - times * share) <= tolerance, `${percent}: ${count} of ${times}`);
    }
  });

  it('gets all with 100 and none with 0, at the ends of chance too', () => {
    for (const chance of [0, 0.5, 1 - 2 ** -53]) {
      assert.equal(
        isMirrored({ percent: 100, subset: null }, () => chance),
        true,
      );
      assert.equal(
        isMirrored({ percent: 0, subset: null }, () => chance),
        false,
      );
    }
  });

  it('is a service on the port that was dialled or on its own, or a subset', () => {
    const dialled = { port: 80 };
    for (const [mirror, choice, text] of [
      [{ subset: 'v2' }, { subset: 'v2', weight: 0 }, 'subset v2'],
      [{ subset: null }, { subset: null, weight: 0 }, 'the service itself'],
      [{ subset: null, service: 'a/b' }, { subset: null, weight: 0, backend: { service: 'a/b', port: 80 } }, 'a/b:80'],
      [
        { subset: 'v2', service: 'a/b', port: 81 },
        { subset: 'v2', weight: 0, backend: { service: 'a/b', port: 81 } },
        'subset v2 of a/b:81',
      ],
    ] as const) {
      const written = { percent: 10, ...mirror };
      assert.deepEqual([mirrorChoice(written, dialled), mirrorText(written, dialled)], [choice, text]);
    }
  });
});
