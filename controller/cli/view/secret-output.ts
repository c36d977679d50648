import { open, rm } from 'node:fs/promises';
import type { CliIo } from '../cli-io.js';
import { CliError } from '../exit-codes.js';

/** What `--out` of a command that makes a secret says. */
export const outHelp = 'write it to this new file, which only its owner can read (mode 0600), instead of printing it';

/** A file that will hold a secret. It is made before the secret is, so that none is lost for want of a place. */
type SecretOutput = {
  readonly write: (text: string) => Promise<void>;
  /** When there will be no secret. */
  readonly abandon: () => Promise<void>;
};

/** `path`: undefined for the standard output. Throws CliError when the file exists or cannot be made. */
async function secretOutput(io: CliIo, path: string | undefined): Promise<SecretOutput> {
  if (path === undefined) {
    return { write: (text) => Promise.resolve(io.print(text)), abandon: () => Promise.resolve() };
  }
  const file = await open(path, 'wx', 0o600).catch((cause: unknown) => {
    const { code, message } = cause as NodeJS.ErrnoException;
    const exists = code === 'EEXIST';
    throw new CliError({
      exit: 'usage',
      code: 'USAGE',
      message: exists ? `the file ${path} exists` : `cannot write ${path} (${code ?? message})`,
      hint: exists ? 'name a new file after --out, or remove this one' : 'check the path after --out',
      cause,
    });
  });
  return {
    write: async (text) => {
      try {
        await file.writeFile(`${text}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
      io.printError(`written to ${path}, readable by its owner only`);
    },
    abandon: async () => {
      await file.close();
      await rm(path, { force: true });
    },
  };
}

/** Makes a secret and writes it out. When it cannot be made, no file is left. */
export async function writeSecret<T>(
  io: CliIo,
  path: string | undefined,
  make: () => Promise<{ readonly text: string; readonly result: T }>,
): Promise<T> {
  const output = await secretOutput(io, path);
  const made = await make().catch(async (error: unknown) => {
    await output.abandon();
    throw error;
  });
  await output.write(made.text);
  return made.result;
}
