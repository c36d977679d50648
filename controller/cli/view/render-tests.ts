import { assertNever } from '../../../shared/assert-never.js';
import type { AssertionResult } from '../../analysis/tests/assertions.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import { printable } from './table.js';

export const testReportFormats = ['text', 'tap', 'junit'] as const;
export type TestReportFormat = (typeof testReportFormats)[number];

/** An assertion with its result and its location in the files. */
export type TestedAssertion = AssertionResult & {
  /** The PolicyTest or rule that contains it; null in a bare list. */
  readonly test: string | null;
  readonly fileName: string | null;
  readonly line: number | null;
};

/** Renders the results for people, as TAP (version 13) or as JUnit XML. */
export function renderTestReport(tested: readonly TestedAssertion[], format: TestReportFormat): string {
  switch (format) {
    case 'text':
      return text(tested);
    case 'tap':
      return tap(tested);
    case 'junit':
      return junit(tested);
    default:
      return assertNever(format);
  }
}

function text(tested: readonly TestedAssertion[]): string {
  const lines = tested.flatMap((one) => {
    const { isPassed, failure, found } = one;
    const by = found === null || !isPassed ? '' : `  by ${formatRuleRef(found.rule)}`;
    return [
      printable(`${isPassed ? 'ok    ' : 'FAILED'}  ${sentence(one)}${by}`),
      ...[failure, noteOf(one)].filter((line) => line !== null).map((line) => printable(`        ${line}`)),
      ...(isPassed ? [] : [printable(`        at ${place(one)}`)]),
    ];
  });
  const failed = tested.filter(({ isPassed }) => !isPassed).length;
  return [...lines, '', `${tested.length - failed} passed, ${failed} failed`].join('\n');
}

function noteOf({ note, unproved }: TestedAssertion): string | null {
  return [note, unproved].filter((text) => text !== null).join('; ') || null;
}

/** https://testanything.org/tap-version-13-specification.html */
function tap(tested: readonly TestedAssertion[]): string {
  const lines = tested.flatMap((one, index) => {
    const { isPassed, failure } = one;
    const note = noteOf(one);
    // A # begins a directive.
    const title = printable(sentence(one)).replaceAll('#', String.raw`\#`);
    const head = `${isPassed ? 'ok' : 'not ok'} ${index + 1} - ${title}`;
    const details = { message: failure, note, at: place(one) };
    if (isPassed && note === null) return [head];
    const block = Object.entries(details).filter(([, value]) => value !== null);
    return [head, '  ---', ...block.map(([name, value]) => `  ${name}: ${JSON.stringify(value)}`), '  ...'];
  });
  return ['TAP version 13', `1..${tested.length}`, ...lines].join('\n');
}

function junit(tested: readonly TestedAssertion[]): string {
  const suites = new Map<string, TestedAssertion[]>();
  for (const one of tested) {
    const name = one.test ?? one.fileName ?? 'tests';
    const others = suites.get(name);
    if (others === undefined) suites.set(name, [one]);
    else others.push(one);
  }
  const blocks = [...suites].map(([name, ones]) =>
    [`  <testsuite name="${escapeXml(name)}" ${counts(ones)}>`, ...ones.map(testCase(name)), '  </testsuite>'].join(
      '\n',
    ),
  );
  return ['<?xml version="1.0" encoding="UTF-8"?>', `<testsuites ${counts(tested)}>`, ...blocks, '</testsuites>'].join(
    '\n',
  );
}

function counts(tested: readonly TestedAssertion[]): string {
  const failures = tested.filter(({ isPassed }) => !isPassed).length;
  return `tests="${tested.length}" failures="${failures}" errors="0" skipped="0"`;
}

function testCase(suite: string): (one: TestedAssertion) => string {
  return (one) => {
    const { failure, note, fileName, line } = one;
    const where =
      fileName === null ? '' : ` file="${escapeXml(fileName)}"${line === null ? '' : ` line="${String(line)}"`}`;
    const head = `    <testcase classname="${escapeXml(suite)}" name="${escapeXml(sentence(one))}"${where}`;
    if (failure === null && note === null) return `${head}/>`;
    const said = [
      ...(failure === null
        ? []
        : [`      <failure message="${escapeXml(failure)}">${escapeXml(`at ${place(one)}`)}</failure>`]),
      ...(note === null ? [] : [`      <system-out>${escapeXml(note)}</system-out>`]),
    ];
    return [`${head}>`, ...said, '    </testcase>'].join('\n');
  };
}

/** `billing/api to billing/db:5432: allow by SegmentationRule/db-only`. */
function sentence({ assertion: { from, to, expect, by, tier, at } }: TestedAssertion): string {
  const wanted = [
    expect,
    ...(by === undefined ? [] : [`by ${by}`]),
    ...(tier === undefined ? [] : [`in ${tier}`]),
    ...(at === undefined ? [] : [`at ${at}`]),
  ];
  return `${from} to ${to}: ${wanted.join(' ')}`;
}

function place({ test, fileName, line }: TestedAssertion): string {
  const at = [fileName ?? (line === null ? null : 'line'), line].filter((part) => part !== null).join(':');
  return [at, test ?? ''].filter((part) => part !== '').join(', ');
}

/** XML 1.0 does not allow control characters, not even escaped. */
function escapeXml(value: string): string {
  return printable(value)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
