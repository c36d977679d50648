import { closeSync } from 'node:fs';
import { CulvertError, describeError } from '../../../shared/errors.js';
import { listenTcp } from '../../native/addon.js';
import { listenerOf } from '../../native/passed-sockets.js';
import { hostPorts } from '../../ports.js';

const retryMs = 2000;
/** A host without IPv6 has no such address. */
const withoutIpv6: ReadonlySet<string> = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/**
 * The listening sockets on the host's loopback interface to which its rules lead probes. An agent that takes over gets copies:
 * what waits in a queue when this one closes its own is accepted by that one. With SO_REUSEPORT, for one of an older version,
 * which opens others, and IP_TRANSPARENT, by which the host's rules know them. Another program on the port is a {@link problem},
 * and tried again.
 */
export class ProbeSockets implements Disposable {
  readonly #backlog: number;
  readonly #onOpen: (fds: readonly number[]) => void;
  readonly #fds: number[] = [];
  /** Taken from the agent before, and not yet in use. */
  readonly #kept: number[];
  #timer: NodeJS.Timeout | null = null;
  /** Why probes are refused; null: they are served, or {@link open} was not called. */
  problem: string | null = null;

  constructor(init: {
    readonly backlog: number;
    readonly onOpen: (fds: readonly number[]) => void;
    /** Those of the agent before, which become this object's; default: none. */
    readonly kept?: readonly number[];
  }) {
    this.#backlog = init.backlog;
    this.#kept = [...(init.kept ?? [])];
    this.#onOpen = init.onOpen;
  }

  /** For the process that takes over; they stay this object's. Empty until they are open. */
  get sockets(): readonly number[] {
    return this.#fds;
  }

  /** Opens them, now or as soon as it is possible. Never throws. */
  open(): void {
    try {
      this.#listen('127.0.0.1');
      this.#listen('::1');
      this.problem = null;
      this.#onOpen([...this.#fds]);
    } catch (error) {
      this.#close();
      this.problem = `probes of the host are refused: ${describeError(error)}`;
      this.#timer = setTimeout(() => this.open(), retryMs);
      this.#timer.unref();
    }
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#close();
  }

  #close(): void {
    for (const fd of [...this.#fds.splice(0), ...this.#kept.splice(0)]) closeSync(fd);
  }

  #listen(host: '127.0.0.1' | '::1'): void {
    const at = this.#kept.findIndex((fd) => listenerOf(fd)?.ip === host);
    if (at >= 0) {
      this.#fds.push(...this.#kept.splice(at, 1));
      return;
    }
    try {
      const where = { netnsFd: null, host, port: hostPorts.probes, backlog: this.#backlog };
      this.#fds.push(listenTcp({ ...where, reusePort: true, transparent: true }));
    } catch (error) {
      const isAbsent = error instanceof CulvertError && withoutIpv6.has(error.code);
      if (host !== '::1' || !isAbsent) throw error;
    }
  }
}
