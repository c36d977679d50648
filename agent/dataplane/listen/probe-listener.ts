import { duplicate } from '../../native/passed-sockets.js';
import type { Accepted } from '../io/io-listener.js';
import { ApplicationListener } from './application-listener.js';

/** Accepts the probes of the host on duplicates of the control thread's sockets. `close` keeps accepted connections. */
export class ProbeListener {
  readonly #listeners: ApplicationListener[] = [];

  /** On all or none. `sockets` stay the caller's. Throws `EBADF` if one has been closed. */
  constructor(init: {
    readonly sockets: readonly number[];
    readonly backlog: number;
    readonly onConnection: (accepted: Accepted) => void;
  }) {
    const { backlog, onConnection: onAccept } = init;
    // A probe that cannot be accepted waits, or its kubelet asks again.
    const onError = (): void => undefined;
    try {
      for (const socket of init.sockets) {
        const fd = duplicate(socket);
        this.#listeners.push(ApplicationListener.open({ fd, backlog, probing: null, onAccept, onError }));
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const listener of this.#listeners) listener.close();
  }
}
