import { CulvertError } from '../../../shared/errors.js';
import { closeFd } from '../../native/addon.js';
import { keepUrgentInline, setProbing, type Probing } from '../../native/tcp-life.js';
import { IoListener, type Accepted } from '../io/io-listener.js';
import { Reactor } from '../io/reactor.js';

/**
 * Accepts connections of applications, and asks the kernel for each where its client wanted to go. `close` keeps accepted
 * connections.
 */
export class ApplicationListener {
  readonly #listener: IoListener;

  private constructor(listener: IoListener) {
    this.#listener = listener;
  }

  /**
   * On a bound socket, which it takes over in any case. `onAccept` owns what it gets; `onError`: there is no room for another
   * one, which waits; once until there is. `probing` is inherited by what is accepted. Throws the errno by which the socket
   * cannot be listened on.
   */
  static open(init: {
    readonly fd: number;
    readonly backlog: number;
    readonly probing: Probing | null;
    readonly onAccept: (accepted: Accepted) => void;
    readonly onError: (error: Error) => void;
  }): ApplicationListener {
    const { fd, backlog, probing, onAccept, onError } = init;
    const owner = {
      onConnection: onAccept,
      onExhausted: (code: string) => onError(new CulvertError({ code, message: `accepting: ${code}` })),
    };
    try {
      if (probing !== null) {
        keepUrgentInline(fd);
        setProbing(fd, probing);
      }
      const listener = IoListener.adopt(Reactor.ofThread(), fd, { owner, wanted: 'dialled', backlog });
      if (typeof listener !== 'string') return new ApplicationListener(listener);
      throw new CulvertError({ code: listener, message: `listening for connections of applications: ${listener}` });
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** The connections that are accepted from here on are probed in this way. */
  probe(how: Probing): void {
    const { fd } = this.#listener;
    if (fd !== null) setProbing(fd, how);
  }

  close(): void {
    this.#listener.close();
  }
}
