import { readFileSync } from 'node:fs';
import type net from 'node:net';
import { acceptedFd } from '../../native/addon.js';

/** Descriptors that connections must leave: for files of the state, NATS, the admin endpoint and certificates. */
const reserve = 128;

/**
 * Says when file descriptors run out, before they have: the kernel gives the lowest free number, so a number close to the
 * limit of open files means that nearly all below are taken. Past the limit libuv would close new connections without
 * telling anybody (uv__emfile_trick), and the control thread could not write its state any more.
 */
export class DescriptorReserve {
  readonly #highest: number;

  /** `limit`: RLIMIT_NOFILE, soft. A limit too small for a reserve keeps a quarter of it. */
  constructor(init: { readonly limit: number }) {
    this.#highest = init.limit - Math.min(reserve, Math.floor(init.limit / 4));
  }

  /** Of this process, as it is now. */
  static ofProcess(): DescriptorReserve {
    return new DescriptorReserve({ limit: parseOpenFilesLimit(readFileSync('/proc/self/limits', 'utf8')) });
  }

  /** Whether a new socket with this descriptor must be given up as `RESOURCE_FD`. */
  isTouchedBy(fd: number): boolean {
    return fd >= this.#highest;
  }

  /** As {@link isTouchedBy}, for an accepted socket; false for one that is closed already. */
  isTouchedBySocket(socket: net.Socket): boolean {
    return !socket.destroyed && this.isTouchedBy(acceptedFd(socket));
  }
}

/** The soft limit in the text of /proc/PID/limits (proc_pid_limits(5)); infinite when it is `unlimited`. */
export function parseOpenFilesLimit(limits: string): number {
  const match = /^Max open files\s+(\d+|unlimited)/m.exec(limits);
  const soft = Number(match?.[1]);
  return Number.isInteger(soft) ? soft : Number.POSITIVE_INFINITY;
}
