import type net from 'node:net';
import tls from 'node:tls';
import { errorCode } from '../engine/http2-error-code.js';
import { ignoreError } from '../sockets/ignore-error.js';
import type { KeyedSemaphore } from './keyed-semaphore.js';
import type { ClientSession, Http2Engine } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import { notAsked, type Refused } from '../connection/ending.js';
import { handshakeFailure, tunnelConnectFailure } from '../connection/failure-reasons.js';
import { identityError } from './peer-verdict.js';
import type { TunnelTarget } from './tunnel.js';
import { rejectReason } from './reject-handshake.js';

/**
 * Begins a TCP connection to `target.destinationIp`, tunnel port, in the namespace of the source workload, and returns
 * the connecting socket, which belongs to the tunnel from then on. Throws a `CulvertError` with the errno as its code.
 */
export type DialRaw = (target: TunnelTarget) => net.Socket;

export type DialledTunnel = {
  readonly session: ClientSession;
  readonly socket: tls.TLSSocket;
  /** What `socket` was made of. */
  readonly raw: net.Socket;
  /** End of the peer's certificate, Unix time in milliseconds. */
  readonly peerNotAfterMs: number;
};

/** The other side accepted our certificate and closed in order: another dial may succeed. */
export type LostTunnel = { readonly ok: 'lost'; readonly detail: string };

/** Why there is no new tunnel. */
export type NoTunnel = Refused | LostTunnel;

/**
 * Connects TCP, TLS 1.3 with both certificates, and HTTP/2. Resolves when the peer's SETTINGS arrive: only then does a TLS
 * 1.3 client know that its own certificate was accepted. `signal` ends the attempt. Never rejects.
 *
 * The turn for a handshake comes before the connection: the other agent resets one that says nothing for some seconds. It waits
 * for a turn as long as for a handshake.
 */
export async function dialTunnel(init: {
  readonly target: TunnelTarget;
  readonly address: string;
  readonly dialRaw: DialRaw;
  readonly context: tls.SecureContext;
  readonly engine: Http2Engine;
  readonly settings: TunnelSettings;
  /** Limits the handshakes with one address: many workloads may begin one at the same time. */
  readonly gate: KeyedSemaphore;
  readonly signal: AbortSignal;
  /** It has its turn, and connects. */
  readonly onAsked?: () => void;
}): Promise<DialledTunnel | LostTunnel | Refused> {
  const { address, settings, signal } = init;
  const timeoutMs = settings.tlsHandshakeTimeoutMs || longestHandshakeMs;
  const turn = new Turn({ gate: init.gate, address, timeoutMs, signal });
  try {
    if (!(await turn.take())) return noTurn(init, timeoutMs);
    return await connectInTurn({ ...init, turn, timeoutMs });
  } finally {
    turn.leave();
  }
}

type Dial = Parameters<typeof dialTunnel>[0];

/** A place among the handshakes with one address. */
class Turn {
  readonly #gate: KeyedSemaphore;
  readonly #address: string;
  readonly #wish: { readonly timeoutMs: number; readonly signal: AbortSignal };
  #leave: (() => void) | null = null;
  #hadOne = false;

  constructor(init: { gate: KeyedSemaphore; address: string; timeoutMs: number; signal: AbortSignal }) {
    this.#gate = init.gate;
    this.#address = init.address;
    this.#wish = init;
  }

  /** Waits for a place, first in line if it had one before. False: there was none in time, or the attempt was ended. */
  async take(): Promise<boolean> {
    this.#leave ??= await this.#gate.enterWithin(this.#address, { ...this.#wish, isFirst: this.#hadOne });
    this.#hadOne ||= this.#leave !== null;
    return this.#leave !== null;
  }

  /** Leaves its place, if it has one. */
  leave(): void {
    this.#leave?.();
    this.#leave = null;
  }
}

async function connectInTurn(
  init: Dial & { readonly turn: Turn; readonly timeoutMs: number },
): Promise<DialledTunnel | LostTunnel | Refused> {
  const { target, address, settings, signal, turn } = init;
  let raw: net.Socket;
  try {
    raw = init.dialRaw(target);
    init.onAsked?.();
  } catch (error) {
    return tunnelConnectFailure(error, address);
  }
  raw.on('error', ignoreError);
  const giveUp = (): void => {
    raw.destroy();
  };
  signal.addEventListener('abort', giveUp, { once: true });
  // An address that does not answer holds no places. What came while this thread did something else is read first.
  let isSettled = false;
  const leaveIfSlow = (): void => {
    if (!isSettled) turn.leave();
  };
  const slow = setTimeout(() => setImmediate(leaveIfSlow), slowConnectMs);
  try {
    const dialError = await connected(raw, settings.connectTimeoutMs);
    isSettled = true;
    clearTimeout(slow);
    if (dialError !== null) return signal.aborted ? givenUp(address) : tunnelConnectFailure(dialError, address);
    raw.setNoDelay(true);
    // A tunnel has no half-close. The TLS socket inherits this, and would otherwise survive the peer's FIN.
    raw.allowHalfOpen = false;
    if (!(await turn.take())) {
      raw.destroy();
      return noTurn(init, init.timeoutMs);
    }
    if (raw.destroyed && signal.aborted) return givenUp(address);
    if (raw.destroyed) return tunnelConnectFailure(raw.errored ?? closedByPeer(), address);
    return await handshake({ ...init, raw });
  } finally {
    isSettled = true;
    clearTimeout(slow);
    signal.removeEventListener('abort', giveUp);
  }
}

/** The workload left, or the agent ends. */
function givenUp(address: string): Refused {
  const { reason, detail } = tunnelConnectFailure(new Error('given up'), address);
  return notAsked(reason, detail);
}

function noTurn({ address, signal }: Dial, timeoutMs: number): Refused {
  if (signal.aborted) return givenUp(address);
  const { reason, detail } = handshakeFailure(timeoutError('no turn for a TLS handshake', timeoutMs), address);
  return notAsked(reason, detail);
}

/** Null when connected; otherwise the error, and the socket is destroyed. */
async function connected(raw: net.Socket, timeoutMs: number): Promise<Error | null> {
  if (!raw.connecting && !raw.destroyed) return null;
  return new Promise((resolve) => {
    const timer =
      timeoutMs === 0 ? undefined : setTimeout(() => settle(timeoutError('no answer', timeoutMs)), timeoutMs);
    const settle = (error: Error | null): void => {
      clearTimeout(timer);
      raw.off('connect', onConnect);
      raw.off('error', settle);
      raw.off('close', onClose);
      if (error !== null) raw.destroy();
      resolve(error);
    };
    const onConnect = (): void => settle(null);
    const onClose = (): void => settle(raw.errored ?? new Error('given up'));
    raw.once('connect', onConnect);
    raw.once('error', settle);
    raw.once('close', onClose);
    if (raw.closed) onClose();
  });
}

async function handshake(init: {
  readonly raw: net.Socket;
  readonly target: TunnelTarget;
  readonly address: string;
  readonly context: tls.SecureContext;
  readonly engine: Http2Engine;
  readonly settings: TunnelSettings;
}): Promise<DialledTunnel | LostTunnel | Refused> {
  const { raw, target, address, settings } = init;
  const socket = tls.connect({
    socket: raw,
    secureContext: init.context,
    ALPNProtocols: ['h2'],
    rejectUnauthorized: true,
    // Instead of a host name: the one identity that the registry gives for this address.
    checkServerIdentity: (_host, certificate) => identityError(target.destinationIdentity, certificate.raw),
  });
  return new Promise((resolve) => {
    let session: ClientSession | undefined;
    let hasFailed = false;
    let hasLeft = false;
    const fail = (failure: Refused | LostTunnel): void => {
      hasFailed = true;
      clearTimeout(timer);
      session?.destroy();
      socket.destroy();
      raw.destroy();
      resolve(failure);
    };
    const timer = setTimeout(
      () => fail(handshakeFailure(timeoutError('no TLS handshake', settings.tlsHandshakeTimeoutMs), address)),
      settings.tlsHandshakeTimeoutMs || longestHandshakeMs,
    );
    const onError = (error: Error): void => fail(hasLeft ? leftAtOnce(address) : handshakeFailure(error, address));
    const onClose = (): void => onError(new Error('closed during the handshake'));
    socket.on('error', onError);
    socket.once('close', onClose);
    socket.once('secureConnect', () => {
      if (socket.alpnProtocol !== 'h2') {
        fail(handshakeFailure(new Error('the other side does not speak HTTP/2 (ALPN h2)'), address));
        return;
      }
      const opened = init.engine.connect(socket, settings);
      session = opened;
      opened.on('error', onError);
      opened.once('goaway', (code: number, _last: number, debugData?: Buffer) => {
        const reason = rejectReason(code, debugData);
        if (reason !== undefined) fail(notAsked(reason, `${address} does not accept our certificate`));
        // The peer's certificate was replaced just now, or it shuts down. SETTINGS, GOAWAY and FIN may be one read.
        hasLeft = code === errorCode.noError;
      });
      opened.once('close', onClose);
      // A server that refuses us sends the GOAWAY right after its SETTINGS, in the same read: hence the next tick.
      opened.once('remoteSettings', () =>
        setImmediate(() => {
          if (hasFailed) return;
          clearTimeout(timer);
          socket.off('close', onClose);
          opened.off('close', onClose);
          const peerNotAfterMs = Date.parse(socket.getPeerX509Certificate()?.validTo ?? '');
          resolve({ session: opened, socket, raw, peerNotAfterMs });
        }),
      );
    });
  });
}

function leftAtOnce(address: string): LostTunnel {
  return { ok: 'lost', detail: `tunnel to ${address} ended: GOAWAY NO_ERROR right after the handshake` };
}

/** A connection that takes longer gives its turn to another, and gets the next one when it is there. */
const slowConnectMs = 250;

/** Used when the setting is 0: a handshake without a limit would hold its waiters for ever. */
const longestHandshakeMs = 10_000;

function closedByPeer(): Error {
  return Object.assign(new Error('closed before the handshake'), { code: 'ECONNRESET' });
}

function timeoutError(what: string, timeoutMs: number): Error {
  return Object.assign(new Error(`${what} within ${timeoutMs} ms`), { code: 'ETIMEDOUT' });
}
