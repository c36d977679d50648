import type { HostPort } from '../../../shared/address.js';
import type { OwnWaits } from './own-waits.js';
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
  /** Of an attempt that has a time limit; null: it has none. */
  readonly #waits: OwnWaits | null;

  constructor(init: { readonly address: HostPort; readonly signal: TerminationSignal; readonly waits?: OwnWaits }) {
    this.address = init.address;
    this.#signal = init.signal;
    this.#waits = init.waits ?? null;
  }

  /** Waits for this agent itself and not for the endpoint; see {@link OwnWaits}. */
  async waitsFor<T>(wait: Promise<T>, since?: () => number | null): Promise<T> {
    return await (this.#waits?.during(wait, since) ?? wait);
  }

  /** Raised when the connection may not go on, for example because a later decision denies it. */
  get signal(): TerminationSignal {
    return this.#signal;
  }
}
