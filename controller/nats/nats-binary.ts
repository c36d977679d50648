import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { CulvertError } from '../../shared/errors.js';
import { findProgram, programPath } from '../../shared/program-path.js';

export type NatsVersion = { readonly major: number; readonly minor: number; readonly patch: number };

const run = promisify(execFile);
/** The first version with direct reads of key-value buckets and named ephemeral consumers. */
const oldest: NatsVersion = { major: 2, minor: 9, patch: 0 };

/** By {@link fileIdentity}. To ask costs as much CPU time as the start of a server, and the first start of a mesh asks twice. */
const answered = new Map<string, string>();

/**
 * The version of the nats-server at `command`, a path or a name in the PATH of this process. A file that answered is not asked
 * again while it stays the same file. Errors: `NATS_SERVER_MISSING`, `NATS_SERVER_TOO_OLD`.
 */
export async function natsServerVersion(command: string): Promise<NatsVersion> {
  const file = await fileIdentity(command);
  const known = file === null ? undefined : answered.get(file);
  const text = known ?? (await askForVersion(command));
  if (file !== null) answered.set(file, text);
  const match = /v(\d+)\.(\d+)\.(\d+)/.exec(text);
  const version = { major: Number(match?.[1] ?? 0), minor: Number(match?.[2] ?? 0), patch: Number(match?.[3] ?? 0) };
  if (isAtLeast(version, oldest)) return version;
  throw new CulvertError({
    code: 'NATS_SERVER_TOO_OLD',
    message: `nats-server ${version.major}.${version.minor}.${version.patch} is too old`,
    hint: 'install nats-server 2.9 or newer, or use your own server: --nats tls://HOST:4222',
  });
}

async function askForVersion(command: string): Promise<string> {
  try {
    const { stdout, stderr } = await run(command, ['--version'], {
      timeout: 5000,
      env: { ...process.env, PATH: programPath() },
    });
    return stdout + stderr;
  } catch (cause) {
    throw new CulvertError({
      code: 'NATS_SERVER_MISSING',
      message: `cannot run the program ${command}`,
      hint: 'install it (Debian, Ubuntu: apt-get install nats-server), or use your own server: --nats tls://HOST:4222',
      cause,
    });
  }
}

/** A file that is replaced or written to gets another one. Null: there is no such file. */
async function fileIdentity(command: string): Promise<string | null> {
  const file = command.includes('/') ? command : findProgram(command);
  if (file === null) return null;
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return [file, dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch {
    return null;
  }
}

export function isAtLeast(version: NatsVersion, least: NatsVersion): boolean {
  if (version.major !== least.major) return version.major > least.major;
  return version.minor === least.minor ? version.patch >= least.patch : version.minor > least.minor;
}
