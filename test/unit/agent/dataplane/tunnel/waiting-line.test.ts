import assert from 'node:assert/strict';
import { test } from 'node:test';
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
