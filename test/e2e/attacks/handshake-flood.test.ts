import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { AttackLab } from '../../bench/attack-lab.js';
import { requireProportion } from '../../bench/attack-rounds.js';
import { type AttackId, attackOf } from '../../bench/attack-table.js';
import type { AttackedNeighbour } from '../../bench/attacked-neighbour.js';
import { patientMs } from '../../lab/patience.js';

/**
 * Handshakes without end on the tunnel port of a workload, next to a neighbour whose agent has the same thread for both.
 * `npm run bench -- attacks` measures what they cost the neighbour; see `requireProportion`.
 */

/** Handshakes of one source and listener that begin in a second, after as many at once: `defaultHandshakeLimits`. */
const perSecond = 100;

let lab: AttackLab;
let neighbour: AttackedNeighbour;

before(async () => {
  lab = await AttackLab.start();
  neighbour = await lab.neighbour('echo');
});

after(async () => {
  await lab[Symbol.asyncDispose]();
});

describe(
  'a flood has its rate, and a neighbour its exchanges and new connections',
  { timeout: patientMs(240_000) },
  () => {
    const floods: readonly [AttackId, string][] = [
      ['handshakes', 'whole handshakes of a stranger'],
      ['replay', 'one recorded ClientHello, which costs the server what an honest one does and the sender nothing'],
      ['proved', 'handshakes of a proved peer, whose tunnels end at once'],
    ];
    for (const [id, title] of floods) {
      test(title, async (t) => {
        const startedAtMs = performance.now();
        const { done, compared } = await requireProportion({ lab, neighbour, attack: attackOf(id) });
        const mostAnswers = perSecond * ((performance.now() - startedAtMs) / 1000 + 1);
        t.diagnostic(`${done.answered} of ${Math.round(mostAnswers)}; ${compared}`);
        assert.ok(done.answered > 0, 'the attack was under way');
        assert.ok(done.answered <= mostAnswers, `${done.answered} handshakes, ${mostAnswers} may have begun`);
      });
    }
  },
);
