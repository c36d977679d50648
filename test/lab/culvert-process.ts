import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CulvertError } from '../../shared/errors.js';
import type { CommandResult } from './command.js';
import { PatientTimer } from './patience.js';

export type CulvertQuestion = {
  readonly id: number;
  readonly args: readonly string[];
  readonly input: string;
  readonly env: Readonly<Record<string, string>>;
};
export type CulvertAnswer = CommandResult & { readonly id: number };

const host = fileURLToPath(new URL('./culvert-host.js', import.meta.url));

/**
 * The command line of `culvert` in a namespace, kept in one process: starting Node and loading the command takes ten times as
 * long as most commands, and tests that wait ask again and again. The teardown of the lab kills it with its namespace.
 */
export class CulvertProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: CulvertAnswer | null) => void>();
  #lastId = 0;

  constructor(netns: string) {
    const argv = ['netns', 'exec', netns, process.execPath, host];
    this.#child = spawn('ip', argv, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], detached: true });
    this.#child.on('message', (answer: CulvertAnswer) => this.#settle(answer.id, answer));
    for (const event of ['exit', 'error']) {
      this.#child.once(event, () => {
        for (const id of this.#waiting.keys()) this.#settle(id, null);
      });
    }
    this.#letExit();
  }

  /** Runs a command line to its end. Throws `COMMAND_TIMEOUT`, and `COMMAND_NOT_STARTED` when the process has ended. */
  async run(
    args: readonly string[],
    options: { readonly input: string; readonly env: Readonly<Record<string, string>>; readonly timeoutMs: number },
  ): Promise<CommandResult> {
    const { input, env, timeoutMs } = options;
    const id = ++this.#lastId;
    const shown = `culvert ${args.join(' ')}`;
    this.#child.ref();
    this.#child.channel?.ref();
    let timer: PatientTimer | undefined;
    try {
      const answer = await new Promise<CulvertAnswer | null>((resolve, reject) => {
        this.#waiting.set(id, resolve);
        timer = new PatientTimer(timeoutMs, () =>
          reject(
            new CulvertError({ code: 'COMMAND_TIMEOUT', message: `"${shown}" did not end within ${timeoutMs} ms.` }),
          ),
        );
        if (!this.#child.connected) resolve(null);
        else this.#child.send({ id, args, input, env } satisfies CulvertQuestion);
      });
      if (answer === null) {
        throw new CulvertError({ code: 'COMMAND_NOT_STARTED', message: `"${shown}" had no process to run in.` });
      }
      const { code, stdout, stderr } = answer;
      return { code, stdout, stderr };
    } finally {
      timer?.clear();
      this.#waiting.delete(id);
      if (this.#waiting.size === 0) this.#letExit();
    }
  }

  #settle(id: number, answer: CulvertAnswer | null): void {
    this.#waiting.get(id)?.(answer);
  }

  /** The process must not keep this one alive while nothing is asked. */
  #letExit(): void {
    this.#child.unref();
    this.#child.channel?.unref();
  }
}
