import assert from 'node:assert/strict';
import process from 'node:process';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { propertyRuns } from '../../../../support/property-runs.js';
import { type PlaceInLine, WaitingLine } from '../../../../../agent/dataplane/tunnel/waiting-line.js';

/** Stands in a line, and says what it learns each time that it is woken. */
function standIn(line: WaitingLine, name: string, said: string[]): PlaceInLine {
  const place = line.stand();
  void place.untilFirst().then((outcome) => said.push(`${name}: ${outcome === null ? 'first' : String(outcome.ok)}`));
  return place;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('of those that wait one is woken when the first leaves, and in the order in which they came', async () => {
  const line = new WaitingLine();
  const said: string[] = [];
  const places = Array.from({ length: 1000 }, (_unused, index) => standIn(line, `${index}`, said));
  await turn();
  assert.deepEqual(said, ['0: first']);
  places[1]?.leave();
  places[0]?.leave();
  await turn();
  assert.deepEqual(said, ['0: first', '2: first']);
  places[2]?.leave();
  places[2]?.leave();
  await turn();
  assert.deepEqual(said.slice(2), ['3: first']);
  for (const place of places) place.leave();
  assert.ok(line.isEmpty);
});

test('a failure of what the first one waited for is one of all, and who stays in the line is woken again', async () => {
  const line = new WaitingLine();
  const said: string[] = [];
  const [first, second] = ['a', 'b', 'c'].map((name) => standIn(line, name, said));
  await turn();
  first?.fail({ ok: 'lost', detail: 'it ended' });
  await turn();
  assert.deepEqual(said, ['a: first', 'b: lost', 'c: lost']);
  const again = second?.untilFirst();
  first?.leave();
  assert.equal(await again, null);
});

/** CPU time of this process for each request that came to the front of a line of this length and left, microseconds. */
function costInLineOf(length: number, lines: number): number {
  const all = Array.from({ length: lines }, () => {
    const line = new WaitingLine();
    return Array.from({ length }, () => line.stand());
  });
  const before = process.cpuUsage();
  for (const places of all) {
    for (const place of places) {
      assert.ok(place.isFirst);
      place.leave();
    }
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / (length * lines);
}

test('who leaves a long line costs as much as who leaves a short one', () => {
  // In one run, with as many requests in both: the machine is the same, and so is the code that is compiled.
  costInLineOf(100, 200);
  const ratios = Array.from({ length: 5 }, () => costInLineOf(100_000, 1) / costInLineOf(100, 1000));
  // A Set costs 230 times as much.
  assert.ok(Math.min(...ratios) < 50, `times ${ratios.map((ratio) => ratio.toFixed(1)).join(', ')}`);
});

/** What can happen to a line of requests, by chance: `who` is a number of those that stand there. */
const happenings = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constant({ kind: 'stand' } as const) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('leave' as const), who: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('leave' as const), who: fc.constant(0) }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'fail' } as const) },
    { weight: 2, arbitrary: fc.constant({ kind: 'turn' } as const) },
  ),
  { maxLength: 60 },
);

test('whatever happens, the first one in the line looks for room, and no other one', async () => {
  await fc.assert(
    fc.asyncProperty(happenings, async (all) => {
      const line = new WaitingLine();
      // The model: who stands there, in order.
      const standing: { readonly place: PlaceInLine; looks: number; failures: number; hasLeft: boolean }[] = [];
      let failed = 0;
      for (const happening of all) {
        if (happening.kind === 'turn') await turn();
        else if (happening.kind === 'stand') {
          const request = { place: line.stand(), looks: 0, failures: 0, hasLeft: false };
          standing.push(request);
          // As a request does: it waits again when what the first one waited for has failed.
          void (async () => {
            while (!request.hasLeft) {
              const outcome = await request.place.untilFirst();
              if (outcome !== null) request.failures += 1;
              else {
                if (!request.hasLeft) assert.ok(request.place.isFirst);
                request.looks += 1;
                return;
              }
            }
          })();
        } else if (standing.length > 0) {
          if (happening.kind === 'fail') {
            failed += standing.length - 1;
            standing[0]?.place.fail({ ok: 'lost', detail: '' });
            continue;
          }
          const [left] = standing.splice(happening.who % standing.length, 1);
          if (left === undefined) continue;
          left.hasLeft = true;
          left.place.leave();
        }
      }
      await turn();
      assert.ok(failed >= standing.reduce((sum, { failures }) => sum + failures, 0));
      assert.deepEqual(
        standing.map(({ looks, place }) => [looks, place.isFirst]),
        standing.map((_unused, index) => (index === 0 ? [1, true] : [0, false])),
      );
      assert.equal(line.isEmpty, standing.length === 0);
    }),
    { numRuns: propertyRuns(1000) },
  );
});
