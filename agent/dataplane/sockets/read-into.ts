import net from 'node:net';

type ReadCallback = (bytes: number, buffer: Buffer) => boolean;
type WithHandle = { readonly _handle?: { readonly useUserBuffer?: (buffer: Buffer) => void } | null };
type Slots = { readonly buffer: symbol; readonly callback: symbol };

/**
 * Makes a connected socket read repeatedly into one buffer, which any number of sockets may share, and calls `onLoan`
 * with the filled part: it is the callee's until it returns. Otherwise Node allocates a buffer for each read, 16 KiB
 * for each TLS record, and half a gigabyte of them per second keeps the garbage collector marking.
 *
 * This is what the option `onread` of `net.connect` does, for sockets that Node creates without options: accepted ones,
 * and TLS over another socket. If this version of Node keeps it elsewhere, and for bytes that were read before,
 * `onOwned` gets buffers of its own. It is always a listener of `data`, so the socket flows. `pause()` and `resume()`
 * work.
 */
export function readInto(init: {
  readonly socket: net.Socket;
  readonly buffer: Buffer;
  readonly onLoan: (bytes: Buffer) => void;
  readonly onOwned: (bytes: Buffer) => void;
}): void {
  const { socket, buffer, onLoan, onOwned } = init;
  socket.on('data', onOwned);
  const { _handle: handle } = socket as WithHandle;
  if (slots === null || socket.readableLength > 0 || typeof handle?.useUserBuffer !== 'function') return;
  const onRead: ReadCallback = (bytes, filled) => {
    onLoan(filled.subarray(0, bytes));
    return true;
  };
  Reflect.set(socket, slots.buffer, buffer);
  Reflect.set(socket, slots.callback, onRead);
  handle.useUserBuffer(buffer);
}

/** Node: lib/net.js and lib/internal/stream_base_commons.js. Null if this version does it differently. */
const slots: Slots | null = findSlots();

function findSlots(): Slots | null {
  const buffer = Buffer.alloc(1);
  const callback: ReadCallback = () => true;
  const probe = new net.Socket({ onread: { buffer, callback } } as net.SocketConstructorOpts);
  const symbols = Object.getOwnPropertySymbols(probe);
  const holding = (value: unknown): symbol | undefined =>
    symbols.find((symbol) => Reflect.get(probe, symbol) === value);
  const found = { buffer: holding(buffer), callback: holding(callback) };
  probe.destroy();
  if (found.buffer === undefined || found.callback === undefined) return null;
  return { buffer: found.buffer, callback: found.callback };
}
