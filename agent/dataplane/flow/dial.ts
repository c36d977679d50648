import net from 'node:net';
import { formatHostPort, isIpv6, isLinkLocal, type HostPort } from '../../../shared/address.js';
import { CulvertError } from '../../../shared/errors.js';
import { closeFd } from '../../native/addon.js';
import { aimSpare } from '../../native/dial-sockets.js';
import { keepUrgentInline, setProbing } from '../../native/tcp-life.js';
import type { KeepalivePolicy } from '../../../shared/policy/traffic-documents.js';
import type { Authorized } from '../connection/authorized.js';
import { refused, refusedByUs, type Refused } from '../connection/ending.js';
import { connectFailure, errorCodeOf } from '../connection/failure-reasons.js';
import type { ConnectionCut } from '../connection/termination-signal.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { DescriptorReserve } from '../sockets/descriptor-reserve.js';
import { ignoreError } from '../sockets/ignore-error.js';
import { socketAddresses } from '../sockets/socket-addresses.js';

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
};

export type Dialled = {
  readonly ok: true;
  readonly socket: net.Socket;
  /** The socket's own address, which the other side sees; null when it was closed at once. */
  readonly from: HostPort | null;
};

/**
 * Connects to the authorized address from inside a workload's namespace, marked as the agent's own traffic so that it is
 * not captured again. The connected socket is paused and belongs to the caller; after a failure nothing is left open.
 * Never rejects.
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
  return await attempt(authorized, init);
}

/** What connect reports when the wished port has a connection to the same target, or is bound. */
const portIsTaken = 'EADDRNOTAVAIL';

async function attempt(authorized: Authorized, init: DialOptions): Promise<Dialled | Refused> {
  const { address: target, signal } = authorized;
  const { client, timeoutMs } = init;
  const text = formatHostPort(target);
  if (signal.cut !== null) return abandoned(signal.cut);
  let socket: net.Socket;
  try {
    socket = rawDial({ ...init, target, prepare: (fd) => prepareForApplication(fd, init) });
  } catch (error) {
    return connectFailure(error, text);
  }
  const connected = await new Promise<Dialled | Refused | null>((resolve) => {
    const finish = (result: Dialled | Refused | null): void => {
      if (timer !== null) clearTimeout(timer);
      signal.offCut(onCut);
      socket.off('connect', onConnect);
      // An error may still come, for the new owner to see; this closure and its scope must not stay alive.
      socket.on('error', ignoreError);
      socket.off('error', onError);
      if (result?.ok !== true) socket.destroy();
      resolve(result);
    };
    const onConnect = (): void => finish({ ok: true, socket, from: ownAddress(socket) });
    const onCut = (): void => {
      if (signal.cut !== null) finish(abandoned(signal.cut));
    };
    const onTimeout = (): void => finish(connectFailure({ code: 'ETIMEDOUT' }, text));
    const timer = timeoutMs === 0 ? null : setTimeout(onTimeout, timeoutMs);
    const onError = (error: Error): void => {
      const isPortTaken = client !== undefined && client.port !== 0 && errorCodeOf(error) === portIsTaken;
      finish(isPortTaken ? null : connectFailure(error, text));
    };
    socket.on('error', onError);
    socket.once('connect', onConnect);
    signal.onCut(onCut);
  });
  return connected ?? (await attempt(authorized, { ...init, ...anyPortOf(init) }));
}

function anyPortOf({ client }: DialOptions): Pick<DialOptions, 'client'> {
  return client === undefined ? {} : { client: { ip: client.ip, port: 0 } };
}

/** It is only shown, so a fault here does not end the connection. */
function ownAddress(socket: net.Socket): HostPort | null {
  try {
    return socketAddresses(socket)?.local ?? null;
  } catch {
    return null;
  }
}

/**
 * Starts a connect to an agent or, through {@link dial}, to an application, and returns at once; `connect` or `error`
 * follows. Throws the native layer's error, and `EMFILE` when only reserved descriptors are left.
 */
export function rawDial(
  init: Pick<DialOptions, 'descriptors' | 'from' | 'client'> & {
    readonly target: HostPort;
    readonly prepare?: (fd: number) => void;
  },
): net.Socket {
  const { descriptors, from, target, client } = init;
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
    init.prepare?.(fd);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  const socket = new net.Socket(notReading(fd));
  socket.connect({ host: target.ip, port: target.port });
  return socket;
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
