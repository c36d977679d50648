/**
 * The error that every part of Culvert throws when a step cannot be done. `hint` says what the user can do about it;
 * `code` is stable, for programs and tests. Expected outcomes (denied, no endpoint) are return values, never errors.
 */
export class CulvertError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(init: { code: string; message: string; hint?: string; cause?: unknown }) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    this.name = 'CulvertError';
    this.code = init.code;
    this.hint = init.hint;
  }
}

/** Text for anything thrown, with its hint if there is one: one line, unless the message has more. */
export function describeError(error: unknown): string {
  if (error instanceof CulvertError && error.hint !== undefined) {
    return error.message.includes('\n') ? `${error.message}\n${error.hint}` : `${error.message} (${error.hint})`;
  }
  return error instanceof Error ? error.message : String(error);
}
