import { isIP } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { connect, type ConnectionOptions, type NatsConnection, type TlsOptions } from 'nats';
import { busAuthenticator, type BusAuth } from './bus-auth.js';
import { toBusError } from './bus-error.js';
import { withSignal } from './with-signal.js';
import type { Bus } from './bus.js';
import { NatsBus } from './nats-bus.js';
import { ReconnectPace, reconnectDelayMs } from './reconnect-delay.js';

export type ConnectBusOptions = {
  /** `host:port`, `nats://host:port` or `tls://host:port`; tried in turn. */
  readonly servers: readonly string[];
  /** Null: no TLS, for a server on loopback in tests. A function is read at every connection, so that roots can rotate. */
  readonly tls: { readonly caPem: string | (() => string); readonly servername?: string } | null;
  readonly auth: BusAuth;
  /** Shown by the server in its log and monitoring. */
  readonly name: string;
  /** Replies go to subjects under it; must be one that the user may subscribe to (see `agentPermissions`). */
  readonly inboxPrefix: string;
  /** Gives up connecting, or closes the bus. */
  readonly signal: AbortSignal;
  /** Hears every attempt that failed and everything else that the bus repairs by itself: for the log. */
  readonly onProblem?: (error: unknown) => void;
};

const connectTimeoutMs = 5000;
/** A half-open connection is noticed after three of these. */
const pingIntervalMs = 5000;

/**
 * Connects to NATS, for as long as it takes, and stays connected: it reconnects for ever, with growing and jittered
 * delays, also after the server refused the credentials (they may have been renewed meanwhile: they are read anew at
 * every attempt). Rejects only when the signal is aborted, with its reason.
 */
export async function connectBus(options: ConnectBusOptions): Promise<Bus> {
  const onProblem = options.onProblem ?? ((): void => undefined);
  const pace = new ReconnectPace();
  const connectionOptions: ConnectionOptions = {
    servers: [...options.servers],
    name: options.name,
    inboxPrefix: options.inboxPrefix,
    authenticator: busAuthenticator(options.auth, onProblem),
    tls: options.tls === null ? null : tlsOptions(options.tls, options.servers),
    timeout: connectTimeoutMs,
    pingInterval: pingIntervalMs,
    maxPingOut: 2,
    // Each first attempt is made here, not by the client: its own waiting for the first connection cannot be cancelled.
    waitOnFirstConnect: false,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    reconnectDelayHandler: () => pace.currentMs(),
    ignoreClusterUpdates: false,
    // The system's resolver, which reads the hosts file; the client's own asks name servers only.
    resolve: false,
    noAsyncTraces: true,
  };
  const connection = await connectFirst(connectionOptions, options.signal, onProblem);
  const bus = new NatsBus({
    connection,
    inboxPrefix: options.inboxPrefix,
    onProblem,
    pace,
  });
  const close = (): void => void bus.close();
  options.signal.addEventListener('abort', close, { once: true });
  void connection.closed().then(() => options.signal.removeEventListener('abort', close));
  return bus;
}

async function connectFirst(
  options: ConnectionOptions,
  signal: AbortSignal,
  onProblem: (error: unknown) => void,
): Promise<NatsConnection> {
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted();
    const connecting = connect(options);
    try {
      return await withSignal(connecting, signal);
    } catch (error) {
      if (signal.aborted) {
        // The client cannot be told to stop dialling: what comes of it later is closed.
        connecting.then((connection) => connection.close()).catch(() => undefined);
        throw signal.reason;
      }
      onProblem(toBusError(`cannot connect to NATS at ${String(options.servers)}`, error));
    }
    await delay(reconnectDelayMs(attempt), undefined, { signal });
  }
}

/**
 * For a bare IP address the client would check the certificate for the name "localhost". Without a `servername` it is
 * checked for the configured addresses instead: any of them will do, for all are servers that were named by the user.
 */
function tlsOptions(tls: NonNullable<ConnectBusOptions['tls']>, servers: readonly string[]): TlsOptions {
  const { caPem, servername } = tls;
  const hosts = servers.map((server) => hostOf(server));
  const checkIdentity = (_host: string, certificate: PeerCertificate): Error | undefined => {
    const mismatches = hosts.map((host) => checkServerIdentity(host, certificate));
    return mismatches.includes(undefined) ? undefined : mismatches[0];
  };
  return {
    // A getter, because the client reads the property once for every connection.
    get ca() {
      return typeof caPem === 'string' ? caPem : caPem();
    },
    ...(servername === undefined ? { checkServerIdentity: checkIdentity } : { servername }),
  };
}

function hostOf(server: string): string {
  const address = server.replace(/^[a-z]+:\/\//, '');
  if (isIP(address) !== 0) return address;
  return new URL(`tcp://${address}`).hostname.replace(/^\[|\]$/g, '');
}
