import type { HostPort } from '../../../shared/address.js';
import type { TerminationSignal } from './termination-signal.js';

/**
 * The decision that one connection may go to one address. Everything that dials on behalf of an application takes it in
 * place of an address, so a dial without a decision does not compile. Only `TrackedConnection` makes one.
 */
export class Authorized {
  readonly ok = true;
  /** Where the connection may go, and nowhere else. */
  readonly address: HostPort;
  /** A private field makes the type nominal: an object with the same properties is not an `Authorized`. */
  readonly #signal: TerminationSignal;

  constructor(init: { readonly address: HostPort; readonly signal: TerminationSignal }) {
    this.address = init.address;
    this.#signal = init.signal;
  }

  /** Raised when the connection may not go on, for example because a later decision denies it. */
  get signal(): TerminationSignal {
    return this.#signal;
  }
}
