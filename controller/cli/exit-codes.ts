import { CulvertError } from '../../shared/errors.js';

/** Exit codes of the `culvert` command; `culvert --help` lists them. 2 is reserved for gates in CI. */
export const exitCodes = {
  ok: { code: 0, text: 'done' },
  failed: { code: 1, text: 'refused or failed: nothing was changed, or a check or expectation failed' },
  wouldBreak: { code: 2, text: 'culvert diff: recorded connections that work would be denied or refused' },
  unreachable: { code: 3, text: 'the controller is unreachable, or its certificate is not trusted' },
  notFound: { code: 4, text: 'there is no such resource, kind, node or name' },
  unauthorized: {
    code: 5,
    text: 'the controller rejects the token of the context file, or its role does not permit this',
  },
  // EX_USAGE of sysexits.h, so that a typo in a CI gate is not mistaken for a finding.
  usage: { code: 64, text: 'the command line, the context file or an input file is unusable' },
} as const;

export type ExitName = keyof typeof exitCodes;

/** An error that determines the exit code. `hint` says what to do. */
export class CliError extends CulvertError {
  readonly exit: ExitName;

  constructor(init: { exit: ExitName; code: string; message: string; hint?: string; cause?: unknown }) {
    super(init);
    this.name = 'CliError';
    this.exit = init.exit;
  }
}

export function usageError(message: string, hint: string, cause?: unknown): CliError {
  return new CliError({ exit: 'usage', code: 'USAGE', message, hint, cause });
}

export function describeExitCodes(): string {
  return Object.values(exitCodes)
    .map(({ code, text }) => `  ${String(code).padStart(2)}  ${text}`)
    .join('\n');
}
