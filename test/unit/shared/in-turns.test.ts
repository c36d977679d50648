import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { atOnce, inTurns } from '../../../shared/in-turns.js';
import { readSourceTree } from '../../house/source-tree.js';

/** Ten steps that take longer than a turn each. */
function* longWork(log: string[]): Generator<void, string> {
  for (let step = 0; step < 10; step++) {
    const endsMs = performance.now() + 15;
    while (performance.now() < endsMs);
    log.push('step');
    yield;
  }
  return 'done';
}

test('a long work in turns lets others have theirs, and gives its result', async () => {
  const log: string[] = [];
  let isOver = false;
  const tick = (): void => {
    log.push('other');
    if (!isOver) setImmediate(tick);
  };
  setImmediate(tick);
  assert.equal(await inTurns(longWork(log)), 'done');
  isOver = true;
  const longestRun = Math.max(
    ...log
      .join(' ')
      .split('other')
      .map((run) => run.match(/step/g)?.length ?? 0),
  );
  assert.equal(longestRun, 1);
});

test('what goes wrong in a turn comes out', async () => {
  // eslint-disable-next-line require-yield -- it fails before it gets there
  function* broken(): Generator<void, never> {
    throw new Error('broken');
  }
  await assert.rejects(inTurns(broken()), /broken/);
  assert.throws(() => atOnce(broken()), /broken/);
});

test('the same work at once gives the same result', () => assert.equal(atOnce(longWork([])), 'done'));

test('computations in steps are named by the convention, with their plain twin above them', () => {
  const root = path.resolve(import.meta.dirname, '../../../..');
  const declared = /(?:function\*|^ {2}\*)\s*(#?\w+)\([\s\S]{0,300}?\): Generator<void\b/gm;
  let twins = 0;
  for (const { path: file, code } of readSourceTree(root).filter(({ path: each }) => !each.startsWith('test/'))) {
    for (const { 1: name = '', index } of code.matchAll(declared)) {
      assert.match(name, /^[a-z]+ing(?=[A-Z]|$)/, `${file}: ${name}`);
      const [call] = code.match(new RegExp(`return atOnce\\((?:this\\.)?${name}\\(.*\n`)) ?? [];
      if (call === undefined) continue;
      twins += 1;
      // Nothing stands between the twin's body and the generator, but the comment that was taken out.
      const between = code.slice(code.indexOf(call) + call.length, index);
      assert.match(between, /^\s*\}\s*(?:export\s*)?$/, `${file}: ${name}`);
    }
  }
  assert.equal(twins, 7);
});

test('work beyond its budget is ended between two steps, and waiting does not count', async () => {
  function* endless(): Generator<void, never> {
    for (;;) {
      const untilMs = performance.now() + 5;
      while (performance.now() < untilMs);
      yield;
    }
  }
  await assert.rejects(inTurns(endless(), { budgetMs: 40 }), { code: 'TOO_MUCH_WORK' });
  assert.equal(await inTurns(longWork([]), { budgetMs: 60_000 }), 'done');
});

test('work that is not wanted any more ends at its next turn', async () => {
  const gone = new AbortController();
  let steps = 0;
  function* endless(): Generator<void, never> {
    for (;;) {
      if (++steps === 3) gone.abort(new Error('gone'));
      const untilMs = performance.now() + 15;
      while (performance.now() < untilMs);
      yield;
    }
  }
  await assert.rejects(inTurns(endless(), { signal: gone.signal }), /gone/);
  assert.equal(steps, 3);
});
