import { inspect } from 'node:util';
import { differingLines } from './line-diff.js';

/** An assertion whose values and message are shorter than this is printed as Node prints it. */
const longText = 2000;
const diffLimits = { contextLines: 2, maxLines: 60, maxWidth: 200 };
const maxMessageLines = 40;
const maxLineWidth = 500;
const maxFrames = 8;

type Assertion = Error & { readonly code: 'ERR_ASSERTION' } & {
  readonly generatedMessage?: boolean;
  readonly operator?: string;
  readonly actual?: unknown;
  readonly expected?: unknown;
};

/**
 * A failed assertion about large values, as an error that prints only the lines in which they differ; any other error
 * unchanged. Node prints the message, `actual` and `expected`, which for two states of a mesh is 30,000 characters.
 */
export function shortFailure(error: unknown): unknown {
  if (!isAssertion(error)) return error;
  const isComparison = error.operator !== undefined && /equal$/i.test(error.operator) && !/^not/i.test(error.operator);
  const [actual, expected] = [textOf(error.actual), textOf(error.expected)];
  if (Math.max(error.message.length, actual.length, expected.length) < longText) return error;
  const lines = [`AssertionError [ERR_ASSERTION]: ${shortMessage(error, isComparison)}`];
  if (isComparison) lines.push('+ actual - expected', ...differingLines(actual, expected, diffLimits));
  const short = new Error(lines[0]);
  short.stack = [...lines, ...framesOf(error)].join('\n');
  return short;
}

/** What was thrown, in one line: the summary of a run is at times all that is left of it. */
export function inOneLine(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const lines = text.split('\n').map((line) => line.trim());
  return cut(lines.filter((line) => line !== '').join(' '));
}

function isAssertion(error: unknown): error is Assertion {
  return error instanceof Error && (error as { code?: unknown }).code === 'ERR_ASSERTION';
}

/** Of a comparison without a message of the test's own, the first line: the rest is Node's diff. */
function shortMessage({ message, generatedMessage }: Assertion, isComparison: boolean): string {
  const lines = message.split('\n');
  if (isComparison && generatedMessage === true) return cut(lines[0] ?? '');
  const kept = lines.slice(0, maxMessageLines).map(cut);
  if (kept.length < lines.length) kept.push(`... ${lines.length - kept.length} lines more`);
  return kept.join('\n');
}

function cut(line: string): string {
  return line.length <= maxLineWidth
    ? line
    : `${line.slice(0, maxLineWidth)} [${line.length - maxLineWidth} characters]`;
}

/** A line for each element and property, so that a change of one is a change of one line. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return inspect(value, {
    depth: 12,
    sorted: true,
    compact: false,
    maxArrayLength: 5000,
    maxStringLength: 5000,
    breakLength: 120,
  });
}

function framesOf({ stack }: Error): string[] {
  const frames = (stack ?? '').split('\n').filter((line) => /^ {4}at /.test(line));
  return frames.slice(0, maxFrames);
}
