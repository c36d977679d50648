import type { CliIo } from '../../../controller/cli/cli-io.js';
import { runCli } from '../../../controller/cli/program.js';

export type CliRun = { readonly code: number; readonly out: string; readonly err: string };

/** Runs one command of `culvert` in this process. */
export async function culvert(
  argv: readonly string[],
  init: { readonly stdin?: string | Uint8Array; readonly env?: CliIo['env'] } = {},
): Promise<CliRun> {
  const out: string[] = [];
  const err: string[] = [];
  const code = await runCli(argv, {
    print: (text) => void out.push(text),
    printError: (text) => void err.push(text),
    readStdin: () => Promise.resolve(Buffer.from(init.stdin ?? '')),
    env: init.env ?? {},
    nowMs: Date.now,
  });
  return { code, out: out.join('\n'), err: err.join('\n') };
}
