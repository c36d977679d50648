import { setTimeout as delay } from 'node:timers/promises';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { connect, type ConnectionOptions, type NatsConnection, type TlsOptions } from 'nats';
import { busAuthenticator, type BusAuth } from './bus-auth.js';
import { toDialError } from './bus-error.js';
import { withSignal } from './with-signal.js';
import type { Bus, StoreGuard } from './bus.js';
import { dialProblem } from './dial-problem.js';
import { NatsBus } from './nats-bus.js';
import { ReconnectPace, reconnectDelayMs } from './reconnect-delay.js';
import { hostAndPortOf } from './server-address.js';

export type ConnectBusOptions = {
  /** `host:port`, `nats://host:port` or `tls://host:port`; tried in turn. */
  readonly servers: readonly string[];
  /** Null: no TLS, for a server on loopback in tests. A function is called for every connection, so that roots can rotate. */
  readonly tls: { readonly caPem: string | (() => string); readonly servername?: string } | null;
  readonly auth: BusAuth;
  /** The server shows it in its log and monitoring. */
  readonly name: string;
  /** Prefix of reply subjects. The user must have permission to subscribe to it (see `agentPermissions`). */
  readonly inboxPrefix: string;
  /** What the names of consumers must begin with, by the credential that was read last; null: any name. Default: any. */
  readonly consumerPrefix?: () => string | null;
  /** Aborts connecting, or closes the bus. */
  readonly signal: AbortSignal;
  /** Called, for the log, with every failed attempt and every other error from which the bus recovers by itself. */
  readonly onProblem?: (error: unknown) => void;
  readonly storeGuard?: StoreGuard;
};

const noGuard: StoreGuard = {
  beforeWriting: () => Promise.resolve(),
  written: () => undefined,
  explain: (found) => Promise.resolve(found),
};

const connectTimeoutMs = 5000;
/** A half-open connection is detected after three of these. */
const pingIntervalMs = 5000;

/**
 * Connects to NATS, retrying until it succeeds, and reconnects forever, with growing and jittered delays. It also retries
 * after the server refused the credentials: each attempt reads them again, since they may have been renewed. Rejects only
 * when the signal is aborted, with its reason.
 */
export async function connectBus(options: ConnectBusOptions): Promise<Bus> {
  const onProblem = options.onProblem ?? ((): void => undefined);
  const pace = new ReconnectPace();
  const tls = options.tls === null ? null : tlsOptions(options.tls, options.servers);
  const connectionOptions: ConnectionOptions = {
    servers: [...options.servers],
    name: options.name,
    inboxPrefix: options.inboxPrefix,
    authenticator: busAuthenticator(options.auth, onProblem),
    tls,
    timeout: connectTimeoutMs,
    pingInterval: pingIntervalMs,
    maxPingOut: 2,
    // `connectFirst` retries instead of the client, whose wait for the first connection cannot be cancelled.
    waitOnFirstConnect: false,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    reconnectDelayHandler: () => pace.currentMs(),
    ignoreClusterUpdates: false,
    // Uses the system's resolver, which reads the hosts file; the client's own asks only name servers.
    resolve: false,
    noAsyncTraces: true,
  };
  const connection = await connectFirst(connectionOptions, options.signal, onProblem);
  const bus = new NatsBus({
    connection,
    inboxPrefix: options.inboxPrefix,
    consumerPrefix: options.consumerPrefix ?? ((): null => null),
    onProblem,
    pace,
    dialProblem: (server, signal) => dialProblem(server, tls, signal),
    storeGuard: options.storeGuard ?? noGuard,
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
        // The client cannot stop dialling, so a connection that it makes later is closed.
        connecting.then((connection) => connection.close()).catch(() => undefined);
        throw signal.reason;
      }
      onProblem(toDialError(`cannot connect to NATS at ${String(options.servers)}`, error));
    }
    await delay(reconnectDelayMs(attempt), undefined, { signal });
  }
}

/**
 * For a bare IP address the client would check the certificate for the name "localhost". Without a `servername` the
 * certificate must match any of the configured addresses instead, since the user named all of these servers.
 */
function tlsOptions(tls: NonNullable<ConnectBusOptions['tls']>, servers: readonly string[]): TlsOptions {
  const { caPem, servername } = tls;
  const hosts = servers.map((server) => hostAndPortOf(server).host);
  const checkIdentity = (_host: string, certificate: PeerCertificate): Error | undefined => {
    const mismatches = hosts.map((host) => checkServerIdentity(host, certificate));
    return mismatches.includes(undefined) ? undefined : mismatches[0];
  };
  return {
    // A getter, because the client reads the property for every connection.
    get ca() {
      return typeof caPem === 'string' ? caPem : caPem();
    },
    ...(servername === undefined ? { checkServerIdentity: checkIdentity } : { servername }),
  };
}
