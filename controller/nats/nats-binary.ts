import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { CulvertError } from '../../shared/errors.js';
import { programPath } from '../../shared/program-path.js';

export type NatsVersion = { readonly major: number; readonly minor: number; readonly patch: number };

const run = promisify(execFile);
/** The first version with direct reads of key-value buckets and named ephemeral consumers. */
const oldest: NatsVersion = { major: 2, minor: 9, patch: 0 };

/** The version of the nats-server at `command`. Errors: `NATS_SERVER_MISSING`, `NATS_SERVER_TOO_OLD`. */
export async function natsServerVersion(command: string): Promise<NatsVersion> {
  let text: string;
  try {
    const { stdout, stderr } = await run(command, ['--version'], {
      timeout: 5000,
      env: { ...process.env, PATH: programPath() },
    });
    text = stdout + stderr;
  } catch (cause) {
    throw new CulvertError({
      code: 'NATS_SERVER_MISSING',
      message: `cannot run the program ${command}`,
      hint: 'install it (Debian, Ubuntu: apt-get install nats-server), or use your own server: --nats tls://HOST:4222',
      cause,
    });
  }
  const match = /v(\d+)\.(\d+)\.(\d+)/.exec(text);
  const version = { major: Number(match?.[1] ?? 0), minor: Number(match?.[2] ?? 0), patch: Number(match?.[3] ?? 0) };
  if (isAtLeast(version, oldest)) return version;
  throw new CulvertError({
    code: 'NATS_SERVER_TOO_OLD',
    message: `nats-server ${version.major}.${version.minor}.${version.patch} is too old`,
    hint: 'install nats-server 2.9 or newer, or use your own server: --nats tls://HOST:4222',
  });
}

export function isAtLeast(version: NatsVersion, least: NatsVersion): boolean {
  if (version.major !== least.major) return version.major > least.major;
  return version.minor === least.minor ? version.patch >= least.patch : version.minor > least.minor;
}
