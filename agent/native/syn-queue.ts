import { closeSync } from 'node:fs';
import net from 'node:net';
import { acceptedFd, callAddon } from './addon.js';

type QueueAddon = {
  replaceableSocket(): number;
  openSynQueue(netns: number, fd: number, number: number, maxLength: number): void;
  giveVerdict(fd: number, message: Buffer): void;
};

/** Larger than any message about a packet. */
const messageBytes = 8192;

/**
 * Opens a packet queue (nfnetlink_queue) of a network namespace: what iptables sends to `NFQUEUE --queue-num` waits there
 * for a verdict. `onMessage` gets each message of the kernel, valid until it returns; {@link giveVerdict} answers on the
 * returned socket. The caller owns it. Destroying it drops all packets that wait.
 *
 * Throws `EPERM` or `EBUSY` when another socket has the queue, and {@link isQueueMissing} tells a kernel without queues.
 */
export function openSynQueue(o: {
  readonly netnsFd: number;
  readonly number: number;
  /** Packets that wait; more are dropped. */
  readonly maxLength: number;
  readonly onMessage: (message: Buffer) => void;
}): net.Socket {
  // Node takes no netlink socket, so it gets a Unix socket, whose descriptor becomes the queue before anything reads it.
  const fd = callAddon('preparing a packet queue', (addon: QueueAddon) => addon.replaceableSocket());
  let socket: net.Socket;
  try {
    const buffer = Buffer.alloc(messageBytes);
    const callback = (bytes: number): boolean => {
      o.onMessage(buffer.subarray(0, bytes));
      return true;
    };
    const onread = { buffer, callback };
    socket = new net.Socket({ ...unread(fd), onread } as net.SocketConstructorOpts);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  try {
    callAddon('opening a packet queue', (addon: QueueAddon) =>
      addon.openSynQueue(o.netnsFd, fd, o.number, o.maxLength),
    );
  } catch (error) {
    socket.destroy();
    throw error;
  }
  socket.read(0);
  return socket;
}

/** Sends a message with a verdict. A queue that takes none is destroyed with the error. */
export function giveVerdict(queue: net.Socket, message: Buffer): void {
  if (queue.destroyed) return;
  try {
    callAddon('giving a verdict', (addon: QueueAddon) => addon.giveVerdict(acceptedFd(queue), message));
  } catch (error) {
    queue.destroy(error instanceof Error ? error : undefined);
  }
}

/** Whether the code of an error of {@link openSynQueue} means that another socket has the queue. */
export function isQueueTaken(code: string): boolean {
  return code === 'EPERM' || code === 'EBUSY';
}

/** Whether it means that the kernel has no nfnetlink_queue. */
export function isQueueMissing(code: string): boolean {
  return code === 'EPROTONOSUPPORT' || code === 'EINVAL' || code === 'EOPNOTSUPP';
}

/** `manualStart` (Node: lib/net.js) keeps a socket on an existing fd from reading it. */
function unread(fd: number): net.SocketConstructorOpts & { readonly manualStart: true } {
  return { fd, manualStart: true, readable: true, writable: true };
}
