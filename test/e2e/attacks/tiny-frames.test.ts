import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { AttackLab } from '../../bench/attack-lab.js';
import { requireProportion } from '../../bench/attack-rounds.js';
import { type AttackId, attackOf } from '../../bench/attack-table.js';
import type { AttackedNeighbour } from '../../bench/attacked-neighbour.js';
import { patientMs } from '../../lab/patience.js';

/**
 * A program that got hold of the keys of its workload sends the smallest frames of HTTP/2 that there are, as fast as it can.
 * Before frames had turns, one such stream made a neighbour's exchanges take seconds, and its connections broke.
 * `npm run bench -- attacks` measures what it costs; see `requireProportion`.
 */

let lab: AttackLab;
let neighbour: AttackedNeighbour;

before(async () => {
  lab = await AttackLab.start();
  neighbour = await lab.neighbour('echo');
});

after(async () => {
  await lab[Symbol.asyncDispose]();
});

describe('a neighbour has its exchanges and new connections', { timeout: patientMs(240_000) }, () => {
  const storms: readonly [AttackId, string][] = [
    ['data-1', 'DATA of one byte in one stream'],
    ['data-90', 'DATA of one byte in 90 streams'],
    ['acks', 'acknowledgements of settings'],
    ['resets', 'streams that are opened and reset, in ever new tunnels'],
  ];
  for (const [id, title] of storms) {
    test(`during a storm of ${title}`, async (t) => {
      const { done, compared } = await requireProportion({ lab, neighbour, attack: attackOf(id) });
      t.diagnostic(compared);
      assert.ok(done.bytes > 0, 'the attack was under way');
    });
  }
});
