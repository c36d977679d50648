import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';

/** What the program answers to a command that begins with these words; the first that fits counts. */
export type FakeAnswer = {
  readonly to: RegExp;
  readonly out?: string | object;
  readonly err?: string;
  readonly code?: number;
};

/** A program that stands in for kubectl: it notes what it is asked for, and answers from a table. */
export class FakeKubectl implements Disposable {
  readonly program: string;
  readonly #directory = mkdtempSync(path.join(tmpdir(), 'culvert-kubectl-'));

  constructor(answers: readonly FakeAnswer[]) {
    this.program = path.join(this.#directory, 'kubectl');
    const table = answers.map(({ to, out = '', err = '', code = 0 }) => ({
      to: to.source,
      out: typeof out === 'string' ? out : JSON.stringify(out),
      err,
      code,
    }));
    const script = `#!${process.execPath}
const { appendFileSync, readFileSync } = require('fs');
const words = process.argv.slice(2).join(' ');
const takesInput = words.includes('-f -');
appendFileSync(${JSON.stringify(this.#log)}, JSON.stringify({ words, input: takesInput ? readFileSync(0, 'utf8') : '' }) + '\\n');
const answer = ${JSON.stringify(table)}.find(({ to }) => new RegExp(to).test(words)) ?? { out: '', err: '', code: 0 };
process.stdout.write(answer.out);
process.stderr.write(answer.err);
process.exitCode = answer.code;
`;
    writeFileSync(this.program, script);
    chmodSync(this.program, 0o755);
  }

  /** All commands so far, with what each was given to read. */
  get asked(): readonly { readonly words: string; readonly input: string }[] {
    if (!existsSync(this.#log)) return [];
    const lines = readFileSync(this.#log, 'utf8').trim().split('\n');
    return lines.map((line) => JSON.parse(line) as { words: string; input: string });
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }

  get #log(): string {
    return path.join(this.#directory, 'log');
  }
}
