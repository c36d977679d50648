import { closeSync } from 'node:fs';
import net from 'node:net';
import { formatHostPort, isIpv6, type HostPort, type IpAddress } from '../../../shared/address.js';
import { CulvertError } from '../../../shared/errors.js';
import { dialSocket } from '../../native/addon.js';
import type { DescriptorReserve } from '../sockets/descriptor-reserve.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { ConnectionCut } from '../connection/connection-cut.js';
import type { TerminationSignal } from '../connection/termination-signal.js';
import { ownTrafficMark } from '../../ports.js';
import { connectFailure, type ConnectFailure } from './connect-failure.js';
import { ignoreError } from '../sockets/ignore-error.js';

export type DialOptions = {
  readonly descriptors: DescriptorReserve;
  /** From whose network namespace. */
  readonly from: HostedWorkload;
  readonly target: HostPort;
  /** Dial with this address instead of the namespace's own; ignored when it is of the other family. */
  readonly sourceIp?: IpAddress;
  /** 0: as long as the kernel tries. */
  readonly timeoutMs: number;
  readonly signal: TerminationSignal;
};

export type DialResult = { readonly ok: true; readonly socket: net.Socket } | ConnectFailure;

/**
 * Connects from inside a workload's namespace, marked as the agent's own traffic so that it is not captured again. The
 * connected socket is paused and belongs to the caller; nothing is left open when it fails. Never rejects.
 */
export async function dial(options: DialOptions): Promise<DialResult> {
  const { target, timeoutMs, signal } = options;
  const text = formatHostPort(target);
  if (signal.cut !== null) return abandoned(signal.cut);
  let socket: net.Socket;
  try {
    socket = rawDial(options);
  } catch (error) {
    return connectFailure(error, text);
  }
  return await new Promise((resolve) => {
    const finish = (result: DialResult): void => {
      if (timer !== null) clearTimeout(timer);
      signal.offCut(onCut);
      socket.off('connect', onConnect);
      // An error may still come, and whoever has the socket hears of it; this closure and all that it sees must not stay.
      socket.on('error', ignoreError);
      socket.off('error', onError);
      if (!result.ok) socket.destroy();
      resolve(result);
    };
    const onConnect = (): void => finish({ ok: true, socket });
    const onCut = (): void => {
      if (signal.cut !== null) finish(abandoned(signal.cut));
    };
    const onTimeout = (): void => finish(connectFailure({ code: 'ETIMEDOUT' }, text));
    const timer = timeoutMs === 0 ? null : setTimeout(onTimeout, timeoutMs);
    const onError = (error: Error): void => finish(connectFailure(error, text));
    socket.on('error', onError);
    socket.once('connect', onConnect);
    signal.onCut(onCut);
  });
}

/**
 * Starts a connect and returns at once; `connect` or `error` follows. Throws the native layer's error, and `EMFILE` when
 * only reserved descriptors are left.
 */
export function rawDial(options: Pick<DialOptions, 'descriptors' | 'from' | 'target' | 'sourceIp'>): net.Socket {
  const { descriptors, from, target, sourceIp } = options;
  const isSameFamily = sourceIp !== undefined && isIpv6(sourceIp) === isIpv6(target.ip);
  const fd = dialSocket({
    netnsFd: from.netnsFd,
    family: isIpv6(target.ip) ? 6 : 4,
    mark: ownTrafficMark,
    ...(isSameFamily ? { transparentSource: sourceIp } : {}),
  });
  if (descriptors.isTouchedBy(fd)) {
    closeSync(fd);
    throw new CulvertError({
      code: 'EMFILE',
      message: 'only reserved file descriptors are left',
      hint: "raise the agent's limit of open files (LimitNOFILE=)",
    });
  }
  const socket = new net.Socket(notReading(fd));
  socket.connect({ host: target.ip, port: target.port });
  return socket;
}

/** `manualStart` (Node: lib/net.js) keeps a socket on an existing fd from reading before it is connected. */
function notReading(fd: number): net.SocketConstructorOpts & { readonly manualStart: true } {
  return { fd, manualStart: true, allowHalfOpen: true };
}

function abandoned({ reason, rule, message }: ConnectionCut): ConnectFailure {
  // A cut that no rule made leaves the rule that let the connection in.
  return { ok: false, reason, ...(rule === '' ? {} : { rule }), detail: message, isRetryable: false };
}
