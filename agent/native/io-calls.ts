import { CulvertError } from '../../shared/errors.js';
import { callAddon } from './addon.js';

/**
 * The engine's floor, see `io/io.h` and the contract above each function in the files of `io/`. A handle is a checked number.
 * Functions return a result of at least 0 or a negated errno; what sets something up throws. Only `agent/dataplane/io` calls
 * them.
 */
export type IoCalls = {
  ioStart(bytes: number, onTurn: (events: number) => void): ArrayBuffer;
  ioPoll(): number;
  ioWatch(handle: number, events: number): number;
  ioCounts(): number;
  ioAdopt(fd: number): number;
  ioRelease(handle: number): number;
  ioDescriptor(handle: number): number;
  ioSocket(family: 4 | 6): number;
  ioListen(handle: number, backlog: number): number;
  ioAccept(handle: number, most: number, wanted: 0 | 1 | 2): number;
  ioConnect(handle: number, ip: string, port: number): number;
  ioReceive(handle: number, offset: number, length: number): number;
  ioSend(handle: number, offset: number, length: number): number;
  ioSendParts(handle: number, count: number): number;
  ioShutdown(handle: number): number;
  ioClose(handle: number, isReset: 0 | 1): number;
  ioSetOption(handle: number, which: number, value: number): number;
  ioAsk(handle: number, which: number): number;
  ioSplice(from: number, to: number, most: number): number;
  ioTlsContext(
    isServer: boolean,
    chain: Uint8Array,
    key: Uint8Array,
    roots: Uint8Array,
    alpn: Uint8Array,
    ciphers: string,
    recordsPerKey: number,
  ): number;
  ioFreeTlsContext(handle: number): number;
  ioTlsBegin(socket: number, context: number): number;
  ioTlsHandshake(socket: number): number;
  ioTlsPeer(socket: number): [result: number, alpn: string, isResumed: boolean, ...certificates: Buffer[]] | null;
  ioTlsFailure(socket: number): string;
  ioTlsAdmit(socket: number): number;
  ioTlsReceive(socket: number, offset: number, most: number, room: number): number;
  ioTlsSend(socket: number, offset: number, length: number): number;
  ioTlsSendBytes(socket: number, bytes: Uint8Array): number;
  ioTlsFlush(socket: number): number;
  ioTlsEnd(socket: number): number;
};

/** The desk: where C puts answers of more than one number, and its limits. As in `io/io.h`. */
export const desk = {
  bytes: 65_536,
  events: 0,
  mostEvents: 1024,
  accepted: 8192,
  mostAccepted: 64,
  acceptedWords: 20,
  parts: 16_384,
  mostParts: 256,
  status: 20_480,
} as const;

/** Bits of the first word of the status. */
export const statusBit = { dry: 1, end: 2, closed: 4, failed: 8, full: 16 } as const;

/** Of epoll_ctl(2). */
export const epollEvent = {
  in: 1,
  urgent: 2,
  out: 4,
  error: 8,
  hangUp: 16,
  peerEnded: 0x2000,
  onEdge: 1 << 31,
} as const;

/** The number that `ioSetOption` and `ioAsk` take. */
export const socketOption = { noDelay: 0, unsentLowWater: 1, receiveBuffer: 2, sendBuffer: 3, quickAck: 4 } as const;
export const socketQuestion = { error: 0, unread: 1, unacknowledged: 2, state: 3 } as const;

/** At most as many bytes of the network in one `ioTlsReceive`, and of the application in one `ioTlsSend`. */
export const mostTlsBytes = 524_288;
/** At most as many bytes in one `ioSplice`. */
export const mostSplicedBytes = 1_048_576;
/** How much more room `ioTlsReceive` wants than it reads. */
export const tlsExtraRoom = 65_536;

export function ioCalls(): IoCalls {
  return callAddon('loading the engine', (addon: IoCalls) => addon);
}

/**
 * Starts the reactor of this thread, which lives as long as the thread. Throws `NATIVE_ENGINE` when this Node lacks what the
 * engine uses. Do not mark the memory as untransferable: Node 26 then aborts at the end of the thread.
 */
export function startReactor(bytes: number, onTurn: (events: number) => void): ArrayBuffer {
  try {
    return callAddon('starting the engine', (addon: IoCalls) => addon.ioStart(bytes, onTurn));
  } catch (cause) {
    if (cause instanceof CulvertError) throw cause;
    throw new CulvertError({
      code: 'NATIVE_ENGINE',
      message: `the engine cannot start: ${cause instanceof Error ? cause.message : String(cause)}`,
      hint: 'it uses libuv and OpenSSL 3 inside of Node: run the agent with a build of Node from nodejs.org or of Debian',
      cause,
    });
  }
}
