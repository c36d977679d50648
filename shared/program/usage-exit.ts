import { CommanderError } from 'commander';
import { CulvertError } from '../errors.js';

/** EX_USAGE of sysexits.h: the command line, or a file that it names, is unusable. */
const usageExitCode = 64;

const usageCodes: ReadonlySet<string> = new Set([
  'USAGE',
  'CONFIG_INVALID',
  'CONFIG_UNREADABLE',
  'CONTROLLER_URL',
  'FILE_READ',
  'FILE_WRITE',
  'NKEY_INVALID',
  'NODE_NAME',
  'PASSWORD_EMPTY',
  'PKCS12_INVALID',
  'PKCS12_PASSWORD',
  'TOKEN_INVALID',
  'TOKEN_UNREADABLE',
]);

/** The exit code for an error of a program, and whether commander has printed it (help and version are no errors). */
export function exitOf(error: unknown): { readonly code: number; readonly isPrinted: boolean } {
  if (error instanceof CommanderError) {
    return { code: error.exitCode === 0 ? 0 : usageExitCode, isPrinted: true };
  }
  return { code: error instanceof CulvertError && usageCodes.has(error.code) ? usageExitCode : 1, isPrinted: false };
}
