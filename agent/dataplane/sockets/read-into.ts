import net from 'node:net';

type ReadCallback = (bytes: number, buffer: Buffer) => boolean;
type WithHandle = { readonly _handle?: { readonly useUserBuffer?: (buffer: Buffer) => void } | null };
type Slots = { readonly buffer: symbol; readonly callback: symbol };

/**
 * Lets a connected socket read into one buffer again and again, which any number of sockets may share, and calls
 * `onLoan` with the part that was filled: it is the caller's until it returns. Node makes a new buffer for each read
 * otherwise, 16 KiB for each TLS record, and half a gigabyte of them in a second keeps the garbage collector marking.
 *
 * It is what the option `onread` of `net.connect` does, for sockets that Node makes without options: accepted ones, and
 * TLS over another socket. Where this Node keeps it in another place, and for what had been read before, `onOwned` gets
 * buffers that nobody else has; that is always a listener of `data`, so the socket flows. `pause()` and `resume()` work.
 */
export function readInto(options: {
  readonly socket: net.Socket;
  readonly buffer: Buffer;
  readonly onLoan: (bytes: Buffer) => void;
  readonly onOwned: (bytes: Buffer) => void;
}): void {
  const { socket, buffer, onLoan, onOwned } = options;
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

/** Node: lib/net.js and lib/internal/stream_base_commons.js. Null where they do it in another way. */
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
