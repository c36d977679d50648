import process from 'node:process';
import { runCli } from '../../controller/cli/program.js';
import type { CulvertAnswer, CulvertQuestion } from './culvert-process.js';

/** A process that runs command lines of `culvert`, one per message of its parent, as `controller/cli/main.ts` runs one. */
async function run({ id, args, input, env }: CulvertQuestion): Promise<void> {
  const written = { stdout: '', stderr: '' };
  const code = await runCli(args, {
    print: (text) => void (written.stdout += `${text}\n`),
    printError: (text) => void (written.stderr += `${text}\n`),
    readStdin: () => Promise.resolve(Buffer.from(input)),
    env: { ...process.env, ...env },
    nowMs: Date.now,
  });
  const answer: CulvertAnswer = { id, code, ...written };
  process.send?.(answer);
}

process.on('message', (question: CulvertQuestion) => void run(question));
process.once('disconnect', () => process.exit(0));
