import { errorCodeName } from '../../http2-error-code.js';

/**
 * The peer violated a rule whose violation ends the connection (RFC 9113 §5.4.1). Thrown while its bytes are parsed and
 * caught by the engine, which answers with GOAWAY. It never leaves the engine.
 */
export class ConnectionViolation extends Error {
  readonly errorCode: number;

  constructor(init: { readonly code: number; readonly detail: string }) {
    super(`${errorCodeName(init.code)}: ${init.detail}`);
    this.name = 'ConnectionViolation';
    this.errorCode = init.code;
  }
}
