import type { Socket } from 'node:net';
import { acceptedFd, callAddon, closeFd, originalSourcePort } from './addon.js';

/** See client-ports.c. */
type PortsAddon = {
  watchConnections(netns: number): number;
  watchedPort(watchFd: number, places: Buffer, fd: number): number;
};

/** Connections that wait to be accepted are few. A connection that falls on the place of another one takes a question more. */
const places = 256;
/** `place` in client-ports.c. */
const placeBytes = 40;
/** A namespace is watched when two questions come within this time, and no longer when none came for this long. */
const busyMs = 1000;
const idleMs = 10_000;

/**
 * The ports that clients of a namespace dialled from whose connections were redirected to the agent: the redirect changes the
 * port of a client that has it twice. Connection tracking knows (`originalSourcePort`), and a question to it is a request to the
 * helper. While many connections come, the kernel says it of each beforehand; a question is left for those of which it did not.
 */
export class ClientPorts {
  /** Null: not watched. False: the kernel cannot. */
  #watchFd: number | false | null = null;
  #places: Buffer | null = null;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #idleTimer: NodeJS.Timeout | null = null;

  /**
   * Of a connection that was accepted in the namespace; null when connection tracking does not have it. Both fds are of that
   * namespace and stay the caller's. Throws what `originalSourcePort` throws.
   */
  of(socket: Socket, o: { readonly netnsFd: number; readonly conntrackFd: number }): number | null {
    const fd = acceptedFd(socket);
    return this.#watched(fd, o.netnsFd) ?? originalSourcePort({ conntrackFd: o.conntrackFd, fd });
  }

  close(): void {
    if (this.#idleTimer !== null) clearInterval(this.#idleTimer);
    this.#idleTimer = null;
    if (typeof this.#watchFd === 'number') closeFd(this.#watchFd);
    this.#watchFd = null;
    this.#places = null;
  }

  #watched(fd: number, netnsFd: number): number | null {
    if (this.#watchFd === false) return null;
    const nowMs = performance.now();
    const isBusy = nowMs - this.#askedAtMs < busyMs;
    this.#askedAtMs = nowMs;
    try {
      if (this.#watchFd === null) {
        // It tells of those that come from now on, not of this one.
        if (isBusy) this.#watch(netnsFd);
        return null;
      }
      const [watchFd, table] = [this.#watchFd, (this.#places ??= Buffer.alloc(places * placeBytes))];
      const port = callAddon('reading of new connections', (addon: PortsAddon) =>
        addon.watchedPort(watchFd, table, fd),
      );
      return port === 0 ? null : port;
    } catch {
      this.close();
      this.#watchFd = false;
      return null;
    }
  }

  #watch(netnsFd: number): void {
    this.#watchFd = callAddon('watching new connections', (addon: PortsAddon) => addon.watchConnections(netnsFd));
    this.#idleTimer = setInterval(() => {
      if (performance.now() - this.#askedAtMs > idleMs) this.close();
    }, idleMs).unref();
  }
}
