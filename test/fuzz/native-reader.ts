import { execFileSync, spawn, type ChildProcessByStdio } from 'node:child_process';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { builtOnce } from '../support/program/built-once.js';

/** The repository, seen from the compiled file. */
const root = path.resolve(import.meta.dirname, '../../..');

/**
 * A reader in C as a program of its own, built with AddressSanitizer where the compiler has it. It gets one input at a time,
 * after its length, and answers with one line. It ends with this process.
 */
export class NativeReader {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  #said = '';
  #problem = '';
  #answer: { readonly resolve: (line: string) => void; readonly reject: (error: Error) => void } | null = null;

  private constructor(program: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env });
    const { stdin, stdout, stderr } = this.#child;
    stdin.on('error', () => undefined);
    stdout.setEncoding('latin1').on('data', (text: string) => this.#hear(text));
    stderr.setEncoding('utf8').on('data', (text: string) => (this.#problem += text));
    this.#child.once('close', (code, signal) => {
      this.#answer?.reject(new Error(`the reader ended with ${code ?? signal}: ${this.#problem.slice(0, 2000)}`));
    });
    this.#keepProcess(false);
  }

  /** Another program that reads and answers in this way. */
  static start(program: string, args: readonly string[], env: NodeJS.ProcessEnv): NativeReader {
    return new NativeReader(program, args, env);
  }

  /** `sources` and `include` are paths in the repository. */
  static build({ sources, include }: { readonly sources: readonly string[]; readonly include: string }): NativeReader {
    const name = `reader-of-${sources.map((file) => path.basename(file, '.c')).join('-')}`;
    using built = builtOnce(name, (directory) => {
      const compile = (flags: readonly string[]): void => {
        const files = sources.map((file) => path.join(root, file));
        const output = path.join(directory, 'reader');
        const args = ['-std=gnu11', '-g', '-O1', ...flags, '-I', path.join(root, include), '-o', output, ...files];
        execFileSync('gcc', args, { stdio: ['ignore', 'ignore', 'pipe'] });
      };
      try {
        compile(['-fsanitize=address,undefined', '-fno-sanitize-recover']);
      } catch {
        compile([]);
      }
    });
    return new NativeReader(path.join(built.directory, 'reader'));
  }

  /** Its answer. Rejects when it ends. One question at a time. */
  ask(input: Uint8Array): Promise<string> {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(input.length);
    return new Promise<string>((resolve, reject) => {
      this.#answer = { resolve, reject };
      this.#keepProcess(true);
      this.#child.stdin.write(Buffer.concat([head, input]));
    }).finally(() => {
      this.#answer = null;
      this.#keepProcess(false);
    });
  }

  #hear(text: string): void {
    this.#said += text;
    const end = this.#said.indexOf('\n');
    if (end < 0) return;
    const line = this.#said.slice(0, end);
    this.#said = this.#said.slice(end + 1);
    this.#answer?.resolve(line);
  }

  /** Whether this process waits for it. */
  #keepProcess(waits: boolean): void {
    for (const part of [this.#child, ...this.#child.stdio] as readonly { ref?: () => void; unref?: () => void }[]) {
      if (waits) part.ref?.();
      else part.unref?.();
    }
  }
}
