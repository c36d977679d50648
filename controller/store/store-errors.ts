import { CulvertError, describeError } from '../../shared/errors.js';

/** The error for a failure before the journal was written, when nothing has changed. */
export function unpublished(error: unknown): unknown {
  if (error instanceof CulvertError && ['JOURNAL_WRITE', 'STORE_INVALID', 'PAYLOAD_TOO_LARGE'].includes(error.code)) {
    return error;
  }
  return unavailableError(error);
}

export function unavailable(error: unknown): never {
  throw unavailableError(error);
}

/** Errors that say themselves what is wrong and what to do. */
const named: ReadonlySet<string> = new Set(['DISK_FULL', 'DISK_FAILED', 'STORE_STUCK']);

function unavailableError(cause: unknown): CulvertError {
  if (cause instanceof CulvertError && named.has(cause.code)) {
    return new CulvertError({
      code: 'STORE_UNAVAILABLE',
      message: `nothing was changed: ${cause.message}`,
      ...(cause.hint === undefined ? {} : { hint: `${cause.hint}, then apply again` }),
      cause,
    });
  }
  const tooLarge = cause instanceof CulvertError && cause.code === 'BUS_PAYLOAD_TOO_LARGE';
  return new CulvertError({
    code: tooLarge ? 'PAYLOAD_TOO_LARGE' : 'STORE_UNAVAILABLE',
    message: `nothing was changed: ${describeError(cause)}`,
    hint: tooLarge
      ? 'raise max_payload of your nats-server to 8MB'
      : 'try again when NATS answers; the API lists what is pending under /readyz',
    cause,
  });
}
