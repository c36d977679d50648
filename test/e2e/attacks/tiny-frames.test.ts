import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AttackId } from '../../bench/attack-table.js';
import { patientMs } from '../../lab/patience.js';
import { attackedMesh } from '../../support/mesh/attacked-mesh.js';

/**
 * A program that got hold of the keys of its workload sends the smallest frames of HTTP/2 that there are, as fast as it can.
 * Before frames had turns, one such stream made a neighbour's exchanges take seconds, and its connections broke.
 * `npm run bench -- attacks` measures what it costs; see `requireProportion`.
 */

const mesh = attackedMesh();

describe('a neighbour has its exchanges and new connections', { timeout: patientMs(240_000) }, () => {
  const storms: readonly [AttackId, string][] = [
    ['data-1', 'DATA of one byte in one stream'],
    ['data-90', 'DATA of one byte in 90 streams'],
    ['acks', 'acknowledgements of settings'],
    ['resets', 'streams that are opened and reset, in ever new tunnels'],
  ];
  for (const [id, title] of storms) {
    test(`during a storm of ${title}`, async (t) => {
      const { done, compared } = await mesh.during(id);
      t.diagnostic(compared);
      assert.ok(done.bytes > 0, 'the attack was under way');
    });
  }
});
