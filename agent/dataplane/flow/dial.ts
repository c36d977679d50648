import net from 'node:net';
import { formatHostPort, isIpv6, isLinkLocal, type HostPort, type IpAddress } from '../../../shared/address.js';
import { CulvertError } from '../../../shared/errors.js';
import { closeFd } from '../../native/addon.js';
import { aimSpare } from '../../native/dial-sockets.js';
import { keepUrgentInline, setProbing } from '../../native/tcp-life.js';
import type { KeepalivePolicy } from '../../../shared/policy/traffic-documents.js';
import type { Authorized } from '../connection/authorized.js';
import { refused, refusedByUs, type Refused } from '../connection/ending.js';
import { connectFailure } from '../connection/failure-reasons.js';
import { ConnectionCut, type TerminationSignal } from '../connection/termination-signal.js';
import { Reactor } from '../io/reactor.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { ApplicationSocket } from '../relay/application-socket.js';
import { wasLedAstray } from './led-astray.js';
import type { DescriptorReserve } from '../sockets/descriptor-reserve.js';
import { addressesOf } from '../sockets/socket-addresses.js';

export type DialOptions = {
  readonly descriptors: DescriptorReserve;
  /** The workload in whose network namespace to dial. */
  readonly from: HostedWorkload;
  /**
   * Dial from this address in place of the namespace's own; ignored when the target is of the other family. Also from this
   * port where the kernel of the namespace gives it; 0: from any.
   */
  readonly client?: HostPort;
  /** The application is in that namespace itself, and its answers find the way back by an entry of connection tracking. */
  readonly isInside: boolean;
  /** After which silence the kernel ends the connection; absent: after none. */
  readonly keepalive?: KeepalivePolicy | undefined;
  /** 0: no limit but the kernel's. */
  readonly timeoutMs: number;
  /** For a dial out of the workload, which may be led astray (led-astray.ts): the addresses that it may come from. */
  readonly ownIps?: readonly IpAddress[];
};

export type Dialled = {
  readonly ok: true;
  readonly socket: ApplicationSocket;
  /** The socket's own address, which the other side sees; null when it was closed at once. */
  readonly from: HostPort | null;
};

/**
 * Connects to the authorized address from inside a workload's namespace, marked as the agent's own traffic so that it is
 * not captured again. Nothing of the connected socket is read, and it belongs to the caller; after a failure nothing is left
 * open. Never rejects.
 */
export async function dial(authorized: Authorized, init: DialOptions): Promise<Dialled | Refused> {
  const { address: target, signal } = authorized;
  const { client } = init;
  if (signal.cut !== null) return abandoned(signal.cut);
  if (client !== undefined && isLinkLocal(client.ip)) {
    // Without it the application would take the client for itself.
    const text = formatHostPort(target);
    return refusedByUs(
      'HOST_UNREACHABLE',
      `${text}: the link-local address ${client.ip} cannot be borrowed for a dial`,
    );
  }
  return await attempt(authorized, init, mostRedials);
}

/** Each is from another port. */
const mostRedials = 16;
/** What connect reports when the wished port has a connection to the same target, or is bound. */
const portIsTaken = 'EADDRNOTAVAIL';

async function attempt(authorized: Authorized, init: DialOptions, redials: number): Promise<Dialled | Refused> {
  const { address: target, signal } = authorized;
  const { client } = init;
  const text = formatHostPort(target);
  if (signal.cut !== null) return abandoned(signal.cut);
  let onEnd: (errno: string | null) => void = () => {};
  let isLedAstray = false;
  let socket: ApplicationSocket | string;
  try {
    const fd = aimedSocket({ ...init, target, prepare: (made) => prepareForApplication(made, init) });
    const to = { fd, ip: target.ip, port: target.port };
    socket = ApplicationSocket.dial(Reactor.ofThread(), to, {
      onDialled: (errno) => onEnd(errno),
      onDialFailed: (made) => (isLedAstray = wasLedAstray(made, target, init)),
    });
  } catch (error) {
    return connectFailure(error, text);
  }
  let failure: string | ConnectionCut | null = null;
  if (typeof socket === 'string') failure = socket;
  else if (!socket.isConnected) {
    const { promise, resolve } = later<string | ConnectionCut | null>();
    onEnd = resolve;
    failure = await within(promise, resolve, { signal, timeoutMs: init.timeoutMs });
  }
  if (typeof socket !== 'string') {
    if (failure === null) return { ok: true, socket, from: ownAddress(socket) };
    socket.close();
  }
  if (failure instanceof ConnectionCut) return abandoned(failure);
  const isPortTaken = client !== undefined && client.port !== 0 && failure === portIsTaken;
  if (isPortTaken) return await attempt(authorized, { ...init, ...anyPortOf(init) }, redials);
  if (isLedAstray && redials > 0) return await attempt(authorized, init, redials - 1);
  return connectFailure({ code: failure }, text);
}

/** What ends the wait for the first of these: its connect, a cut, or the time. */
async function within(
  connected: Promise<string | ConnectionCut | null>,
  end: (why: string | ConnectionCut) => void,
  { signal, timeoutMs }: { readonly signal: TerminationSignal; readonly timeoutMs: number },
): Promise<string | ConnectionCut | null> {
  const onCut = (): void => {
    if (signal.cut !== null) end(signal.cut);
  };
  const timer = timeoutMs === 0 ? null : setTimeout(() => end('ETIMEDOUT'), timeoutMs);
  signal.onCut(onCut);
  const failure = await connected;
  if (timer !== null) clearTimeout(timer);
  signal.offCut(onCut);
  return failure;
}

function later<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}

function anyPortOf({ client }: DialOptions): Pick<DialOptions, 'client'> {
  return client === undefined ? {} : { client: { ip: client.ip, port: 0 } };
}

/** It is only shown, so a fault here does not end the connection. */
function ownAddress(socket: ApplicationSocket): HostPort | null {
  try {
    return addressesOf(socket)?.local ?? null;
  } catch {
    return null;
  }
}

type Aim = Pick<DialOptions, 'descriptors' | 'from' | 'client'> & {
  readonly target: HostPort;
  readonly prepare?: (fd: number) => void;
};

/**
 * Starts a connect to another agent and returns at once; `connect` or `error` follows. Throws the native layer's error, and
 * `EMFILE` when only reserved descriptors are left.
 */
export function rawDial(init: Aim): net.Socket {
  const { target } = init;
  const socket = new net.Socket(notReading(aimedSocket(init)));
  socket.connect({ host: target.ip, port: target.port });
  return socket;
}

/** An unconnected socket of the namespace, which is the caller's. Throws as {@link rawDial} does. */
function aimedSocket({ descriptors, from, target, client, prepare }: Aim): number {
  const isSameFamily = client !== undefined && isIpv6(client.ip) === isIpv6(target.ip);
  const family = isIpv6(target.ip) ? 6 : 4;
  const fd = from.dialSocket(family, descriptors);
  if (descriptors.isTouchedBy(fd)) {
    closeFd(fd);
    throw new CulvertError({
      code: 'EMFILE',
      message: 'only reserved file descriptors are left',
      hint: "raise the agent's limit of open files (LimitNOFILE=)",
    });
  }
  aimSpare(fd, family, isSameFamily ? { transparentSource: client.ip, sourcePort: client.port } : {});
  try {
    prepare?.(fd);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}

function prepareForApplication(fd: number, { from, isInside, keepalive }: DialOptions): void {
  keepUrgentInline(fd);
  if (isInside) setProbing(fd, from.probing.open);
  else if (keepalive !== undefined) setProbing(fd, { ...keepalive, longestRetransmitMs: null }, keepalive.probes);
}

/** `manualStart` (Node: lib/net.js) keeps a socket on an existing fd from reading before it is connected. */
function notReading(fd: number): net.SocketConstructorOpts & { readonly manualStart: true } {
  return { fd, manualStart: true, allowHalfOpen: true };
}

function abandoned({ reason, detail, rule }: ConnectionCut): Refused {
  return refused(reason, detail, rule);
}
