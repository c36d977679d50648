import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { differingLines } from '../../runner/line-diff.js';
import { shortFailure } from '../../runner/short-failure.js';

function failureOf(check: () => void): Error {
  try {
    check();
  } catch (error) {
    return error as Error;
  }
  throw new Error('the assertion held');
}

/** What the runner prints of it. */
function printed(check: () => void): string {
  const short = shortFailure(failureOf(check));
  assert.ok(short instanceof Error);
  return short.stack ?? '';
}

const manyNames = (changed: string): string[] =>
  Array.from({ length: 3000 }, (_, at) => (at === 1500 ? changed : `name-${at}`));

describe('a failed assertion', () => {
  it('about small values stays as it is', () => {
    const error = failureOf(() => assert.deepEqual({ a: 1 }, { a: 2 }));
    assert.equal(shortFailure(error), error);
  });

  it('is the only kind of error that is shortened', () => {
    const error = new Error('x'.repeat(50_000));
    assert.equal(shortFailure(error), error);
    assert.equal(shortFailure('a string'), 'a string');
  });

  it('about large values shows the lines that differ, two lines around them, and where it is', () => {
    const text = printed(() => assert.deepEqual(manyNames('mine'), manyNames('theirs')));
    const expected = [
      'AssertionError [ERR_ASSERTION]: Expected values to be strictly deep-equal:',
      '+ actual - expected',
      '... 1499 equal lines',
      "    'name-1498',",
      "    'name-1499',",
      "+   'mine',",
      "-   'theirs',",
      "    'name-1501',",
      "    'name-1502',",
      '... 1498 equal lines',
    ];
    assert.deepEqual(text.split('\n').slice(0, expected.length), expected);
    assert.match(text, /\n {4}at .*short-failure\.test\.js/);
    assert.ok(text.length < 2500, `${text.length} characters`);
  });

  it('about a long text shows the part of its lines that differs', () => {
    const text = printed(() => assert.equal(`${'a'.repeat(30_000)}bc`, `${'a'.repeat(30_000)}bd`));
    assert.match(text, /^\+ \[29802 characters\] a+bc$/m);
    assert.match(text, /^- \[29802 characters\] a+bd$/m);
    assert.ok(text.length < 2500, `${text.length} characters`);
  });

  it('keeps what the test itself says, cut', () => {
    const message = Array.from({ length: 500 }, (_, at) => `line ${at}`).join('\n');
    const text = printed(() => assert.ok(false, message));
    assert.match(text, /^AssertionError \[ERR_ASSERTION\]: line 0\nline 1\n/);
    assert.match(text, /\nline 39\n\.\.\. 460 lines more\n/);
    assert.match(
      printed(() => assert.deepEqual(manyNames('x'), manyNames('y'), 'names of node1')),
      /: names of node1\n/,
    );
  });

  it('that a text matches, or that values differ, is cut too', () => {
    for (const check of [
      () => assert.match('a'.repeat(30_000), /b/),
      () => assert.notDeepEqual(manyNames('x'), manyNames('x')),
      () => assert.throws(() => {}, { message: 'y'.repeat(30_000) }),
    ]) {
      assert.ok(printed(check).length < 4000);
    }
  });
});

describe('the lines in which two texts differ', () => {
  const limits = { contextLines: 0, maxLines: 6, maxWidth: 20 };
  const lines = (...each: readonly string[]): string => each.join('\n');
  const cases: readonly [what: string, actual: string, expected: string, found: readonly string[]][] = [
    ['of equal texts are none', lines('a', 'b'), lines('a', 'b'), ['... 2 equal lines']],
    [
      'are those that were added',
      lines('a', 'x', 'b'),
      lines('a', 'b'),
      ['... 1 equal lines', '+ x', '... 1 equal lines'],
    ],
    [
      'are those that are missing',
      lines('a', 'b'),
      lines('a', 'x', 'b'),
      ['... 1 equal lines', '- x', '... 1 equal lines'],
    ],
    [
      'leave out what is equal between two places',
      lines('1', 'a', 'b', '2'),
      lines('3', 'a', 'b', '4'),
      ['+ 1', '- 3', '... 2 equal lines', '+ 2', '- 4'],
    ],
  ];
  for (const [what, actual, expected, found] of cases) {
    it(what, () => assert.deepEqual(differingLines(actual, expected, limits), found));
  }

  it('are counted when there are too many', () => {
    const all = Array.from({ length: 100 }, (_, at) => `x${at}`);
    const found = differingLines(lines(...all), '', limits);
    assert.deepEqual(found.slice(0, 2), ['+ x0', '+ x1']);
    assert.equal(found.at(-1), '... 95 lines more');
    assert.equal(found.length, 7);
  });

  it('are found quickly in texts too large to compare line by line', () => {
    const [a, b] = ['a', 'b'].map((word) => Array.from({ length: 5000 }, (_, at) => `${word}${at}`).join('\n'));
    assert.equal(differingLines(a ?? '', b ?? '', limits).length, 7);
  });
});
