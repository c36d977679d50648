import type { ProgramOutput } from './program-command.js';

/** The output of this process. */
export const processOutput: ProgramOutput = {
  print: (text) => process.stdout.write(`${text}\n`),
  printError: (text) => process.stderr.write(`${text}\n`),
};

/**
 * Ends the program when its output cannot be written: with 0 when the reader closed the pipe (`culvert get all | head`),
 * which is no error, else with 1 and a line that says why. What cannot be written to standard error is dropped.
 */
export function watchOutput(o: { readonly program: string; readonly exit: (code: number) => void }): void {
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return o.exit(0);
    const hint = error.code === 'ENOSPC' ? 'free space on its disk' : 'check where the output goes';
    process.stderr.write(`${o.program}: cannot write the output: ${error.message} (${hint}) [OUTPUT]\n`);
    o.exit(1);
  });
}

/** Resolves when what was printed is written, or {@link watchOutput} has seen that it cannot be. */
export function outputWritten(): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write('', () => setImmediate(resolve));
  });
}
