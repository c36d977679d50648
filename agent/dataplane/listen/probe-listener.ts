import { duplicate } from '../../native/passed-sockets.js';
import type { Accepted } from '../io/io-listener.js';
import { ApplicationListener } from './application-listener.js';

/** Accepts the probes of the host on duplicates of the control thread's sockets. `close` keeps accepted connections. */
export class ProbeListener {
  readonly #listeners: readonly ApplicationListener[];

  /** `sockets` stay the caller's. Throws `EBADF` if one has been closed. */
  constructor(init: {
    readonly sockets: readonly number[];
    readonly backlog: number;
    readonly onConnection: (accepted: Accepted) => void;
  }) {
    const { backlog, onConnection: onAccept } = init;
    // A probe that cannot be accepted waits, or its kubelet asks again.
    const onError = (): void => undefined;
    this.#listeners = init.sockets.map((socket) =>
      ApplicationListener.open({ fd: duplicate(socket), backlog, probing: null, onAccept, onError }),
    );
  }

  close(): void {
    for (const listener of this.#listeners) listener.close();
  }
}
