import { CulvertError, describeError } from '../errors.js';

/** Of one line; what a person wrote may be of any length. */
const maxLineLength = 1000;

/** What a program prints when it fails: what is wrong, what to do, and the code for other programs. */
export function failureLine(program: string, error: unknown): string {
  const code = error instanceof CulvertError ? ` [${error.code}]` : '';
  return `${program}: ${describeError(error)}${code}`.split('\n').map(shortened).join('\n');
}

/** Keeps both ends of a line: it begins with the problem and ends with what to do. */
export function shortened(line: string): string {
  if (line.length <= maxLineLength) return line;
  const half = maxLineLength / 2;
  return `${line.slice(0, half)} … ${line.slice(-half)}`;
}
