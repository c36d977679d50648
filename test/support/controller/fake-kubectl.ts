import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** What the program answers to a command that begins with these words; the first that fits counts. */
export type FakeAnswer = {
  readonly to: RegExp;
  readonly out?: string | object;
  readonly err?: string;
  readonly code?: number;
};

/**
 * A program that stands in for kubectl: it notes what it is asked for, and answers from a table. A script of bash, which starts
 * in a twentieth of the time of Node: some tests ask a hundred times.
 */
export class FakeKubectl implements Disposable {
  readonly program: string;
  readonly #directory = mkdtempSync(path.join(tmpdir(), 'culvert-kubectl-'));

  /** Throws when an expression means something else to bash. */
  constructor(answers: readonly FakeAnswer[]) {
    this.program = path.join(this.#directory, 'kubectl');
    const branches = answers.map(({ to, out = '', err = '', code = 0 }) => {
      const text = typeof out === 'string' ? out : JSON.stringify(out);
      const prints = [`printf %s ${quoted(text)}`, `printf %s ${quoted(err)} >&2`, `exit ${code}`];
      return `to=${quoted(extended(to))}\nif [[ $words =~ $to ]]; then\n${prints.join('\n')}\nfi`;
    });
    const script = `#!/bin/bash
words="$*"
here=${quoted(this.#directory)}
if [[ $words == *'-f -'* ]]; then cat >"$here/input-$$"; fi
printf '%s %s\\0' "$$" "$words" >>"$here/log"
${branches.join('\n')}
`;
    writeFileSync(this.program, script);
    chmodSync(this.program, 0o755);
  }

  /** All commands so far, with what each was given to read. */
  get asked(): readonly { readonly words: string; readonly input: string }[] {
    const log = path.join(this.#directory, 'log');
    if (!existsSync(log)) return [];
    const entries = readFileSync(log, 'utf8').split('\0').slice(0, -1);
    return entries.map((entry) => {
      const end = entry.indexOf(' ');
      const input = path.join(this.#directory, `input-${entry.slice(0, end)}`);
      return { words: entry.slice(end + 1), input: existsSync(input) ? readFileSync(input, 'utf8') : '' };
    });
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}

/** One word for bash. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The expression as an extended one of POSIX, with the `\S` of GNU. */
function extended({ source, flags }: RegExp): string {
  if (flags !== '' || /\\[a-zA-RT-Z0-9]|\(\?|[*+?}]\?/.test(source))
    throw new Error(`bash does not know /${source}/${flags}`);
  return source;
}
