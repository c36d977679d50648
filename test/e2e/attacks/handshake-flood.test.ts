import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AttackId } from '../../bench/attack-table.js';
import { patientMs } from '../../lab/patience.js';
import { attackedMesh } from '../../support/mesh/attacked-mesh.js';

/**
 * Handshakes without end on the tunnel port of a workload, next to a neighbour whose agent has the same thread for both.
 * `npm run bench -- attacks` measures what they cost the neighbour; see `requireProportion`.
 */

/** Handshakes of one source and listener that begin in a second, after some at once: `defaultHandshakeLimits`. */
const unproved = { perSecond: 4, atOnce: 16 };
const proved = { perSecond: 25, atOnce: 256 };
/** Connections that found no place and end in a second, of 4,096 that are held: `SlowEnds`. */
const endsPerSecond = 600;

const mesh = attackedMesh();

describe(
  'a flood has its rate, and a neighbour its exchanges and new connections',
  { timeout: patientMs(240_000) },
  () => {
    const floods: readonly [AttackId, string][] = [
      ['handshakes', 'whole handshakes of a stranger'],
      ['replay', 'one recorded ClientHello, which costs the server what an honest one does and the sender nothing'],
      ['replay-many', 'more of these at a time than a source has places'],
      ['proved', 'tunnels of a proved peer that end at once'],
    ];
    for (const [id, title] of floods) {
      test(title, async (t) => {
        const startedAtMs = performance.now();
        const { done, compared } = await mesh.during(id);
        const { perSecond, atOnce } = id === 'proved' ? proved : unproved;
        const mostAnswers = atOnce + perSecond * ((performance.now() - startedAtMs) / 1000);
        t.diagnostic(`${done.answered} of ${Math.round(mostAnswers)}; ${compared}`);
        assert.ok(done.answered > 0, 'the attack was under way');
        assert.ok(done.answered <= mostAnswers, `${done.answered} handshakes, ${mostAnswers} may have begun`);
      });
    }

    test('2,600 silent connections, each opened again when it ends', async (t) => {
      const startedAtMs = performance.now();
      const { done, compared } = await mesh.during('silent-tunnel');
      const most = endsPerSecond * ((performance.now() - startedAtMs) / 1000);
      t.diagnostic(`${done.connections} of ${Math.round(most)} ended; ${compared}`);
      assert.ok(done.connections > 0, 'the attack was under way');
      assert.ok(done.connections <= most, `${done.connections} connections have ended, ${most} may`);
    });
  },
);
