import type net from 'node:net';
import { openFilesLimit } from '../../../shared/open-files.js';
import { acceptedFd } from '../../native/addon.js';

/** Descriptors that connections must leave free for state files, NATS, the admin endpoint and certificates. */
const reserve = 128;
/** Spare sockets of one thread: at most this many, and this part of the limit. */
const mostSpare = 256;
const sparePart = 1 / 64;

/**
 * Detects that file descriptors are about to run out. The kernel assigns the lowest free number, so a number close to
 * the limit of open files means that nearly all below are taken. At the limit libuv would silently close new
 * connections (uv__emfile_trick), and the control thread could no longer write its state.
 */
export class DescriptorReserve {
  readonly #highest: number;
  #mostSpare: number;

  /** `limit`: RLIMIT_NOFILE, soft. If it is too small for the reserve, a quarter of it is kept. */
  constructor(init: { readonly limit: number }) {
    this.#highest = init.limit - Math.min(reserve, Math.floor(init.limit / 4));
    this.#mostSpare = Math.min(mostSpare, Math.floor(init.limit * sparePart));
  }

  /** With this process's current limit. */
  static ofProcess(): DescriptorReserve {
    return new DescriptorReserve({ limit: openFilesLimit() });
  }

  /** Whether a new socket with this descriptor must be rejected as `RESOURCE_FD`. */
  isTouchedBy(fd: number): boolean {
    return fd >= this.#highest;
  }

  /** Descriptors that may lie ready for connections to come: how many of `wanted`. They count until {@link giveBack}. */
  setAside(wanted: number): number {
    const granted = Math.min(wanted, this.#mostSpare);
    this.#mostSpare -= granted;
    return granted;
  }

  giveBack(count: number): void {
    this.#mostSpare += count;
  }

  /** Like {@link isTouchedBy}, for an accepted socket; false if it is already closed. */
  isTouchedBySocket(socket: net.Socket): boolean {
    return !socket.destroyed && this.isTouchedBy(acceptedFd(socket));
  }

  /** The same, for one that is not Node's. */
  isTouchedByNumbered(socket: { readonly isClosed: boolean; readonly fd: number }): boolean {
    return !socket.isClosed && this.isTouchedBy(socket.fd);
  }
}
