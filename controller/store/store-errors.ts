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

function unavailableError(cause: unknown): CulvertError {
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
