import { callAddon, closeFd, originalSourcePort } from './addon.js';

/** See client-ports.c. */
type PortsAddon = {
  watchConnections(netns: number): number;
  watchedPort(watchFd: number, places: Buffer, fd: number): number;
};

/** Connections that wait to be accepted are few, until they are as many as a queue has (`listenBacklog`): 320 KiB. */
const fewPlaces = 256;
const manyPlaces = 8192;
/** After this many connections of which it did not say, though it was watched, more are there than places. */
const mostMissed = 8;
/** `place` in client-ports.c. */
const placeBytes = 40;
/** A namespace is watched when two questions come within this time, and no longer when none came for this long. */
const busyMs = 1000;
const idleMs = 10_000;
/** Questions at once, and then in a second. The thread waits for the answer of another process, up to tens of milliseconds. */
const questionsAtOnce = 16;
const questionsPerSecond = 20;

/**
 * The ports that clients of a namespace dialled from whose connections were redirected to the agent: the redirect changes the
 * port of a client that has it twice. Connection tracking knows (`originalSourcePort`), and a question to it is a request to the
 * helper. While many connections come, the kernel says it of each beforehand; a question is left for those of which it did not,
 * at a rate: of more than that the port is not known. So who opens connections as fast as it can does not stop the thread.
 */
export class ClientPorts {
  /** Null: not watched. False: the kernel cannot. */
  #watchFd: number | false | null = null;
  #places: Buffer | null = null;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #idleTimer: NodeJS.Timeout | null = null;
  #missed = 0;
  #questionsLeft = questionsAtOnce;
  #countedAtMs = 0;
  readonly #nowMs: () => number;

  /** `nowMs`: of a clock that never goes back. */
  constructor({ nowMs = () => performance.now() }: { readonly nowMs?: () => number } = {}) {
    this.#nowMs = nowMs;
  }

  /**
   * Of a connection that was accepted in the namespace; null when connection tracking does not have it, or is not asked because
   * it was asked too often. The fds are of that namespace and stay the caller's. Throws what `originalSourcePort` throws.
   */
  of(fd: number, o: { readonly netnsFd: number; readonly conntrackFd: number }): number | null {
    const watched = this.#watched(fd, o.netnsFd);
    if (watched !== null) return watched;
    return this.#mayAsk() ? originalSourcePort({ conntrackFd: o.conntrackFd, fd }) : null;
  }

  close(): void {
    if (this.#idleTimer !== null) clearInterval(this.#idleTimer);
    this.#idleTimer = null;
    if (typeof this.#watchFd === 'number') closeFd(this.#watchFd);
    this.#watchFd = null;
    this.#places = null;
    this.#missed = 0;
  }

  #mayAsk(): boolean {
    const nowMs = this.#nowMs();
    const refilled = ((nowMs - this.#countedAtMs) / 1000) * questionsPerSecond;
    this.#countedAtMs = nowMs;
    this.#questionsLeft = Math.min(questionsAtOnce, this.#questionsLeft + refilled);
    if (this.#questionsLeft < 1) return false;
    this.#questionsLeft -= 1;
    return true;
  }

  #watched(fd: number, netnsFd: number): number | null {
    if (this.#watchFd === false) return null;
    const nowMs = this.#nowMs();
    const isBusy = nowMs - this.#askedAtMs < busyMs;
    this.#askedAtMs = nowMs;
    try {
      if (this.#watchFd === null) {
        // It tells of those that come from now on, not of this one.
        if (isBusy) this.#watch(netnsFd);
        return null;
      }
      const [watchFd, table] = [this.#watchFd, (this.#places ??= Buffer.alloc(fewPlaces * placeBytes))];
      const port = callAddon('reading of new connections', (addon: PortsAddon) =>
        addon.watchedPort(watchFd, table, fd),
      );
      if (port !== 0) return port;
      this.#missed += 1;
      // What the small one had is lost: it is of those of which most are lost anyway.
      if (this.#missed === mostMissed) this.#places = Buffer.alloc(manyPlaces * placeBytes);
      return null;
    } catch {
      this.close();
      this.#watchFd = false;
      return null;
    }
  }

  #watch(netnsFd: number): void {
    this.#watchFd = callAddon('watching new connections', (addon: PortsAddon) => addon.watchConnections(netnsFd));
    this.#idleTimer = setInterval(() => {
      if (this.#nowMs() - this.#askedAtMs > idleMs) this.close();
    }, idleMs).unref();
  }
}
