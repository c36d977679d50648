import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Registry } from 'prom-client';
import { CulvertError } from '../../shared/errors.js';
import { logLevels, type Log, type LogLevel } from '../../shared/log.js';
import type { ListenAddress } from '../../shared/config/listen-address.js';
import type { Rejoined } from '../control/control-plane-init.js';
import type { WorkerDump } from '../dataplane/messages.js';
import { listenerOf } from '../native/passed-sockets.js';
import type { ConnectionCut } from '../../shared/http/bounded-server.js';
import { sharedAnswer } from '../../shared/http/shared-answer.js';
import type { EndpointCertificate } from './endpoint-certificate.js';
import { HttpEndpoint, type EndpointRoutes } from './http-endpoint.js';
import { ListeningAttempts } from './listening-attempts.js';
import type { ReadinessReport } from './readiness.js';

/** What the endpoints show; without secrets. */
export type EndpointSources = {
  readonly readiness: () => ReadinessReport;
  /** Whether the process makes progress at all. False asks the orchestrator for a restart. */
  readonly isAlive: () => boolean;
  readonly configuration: () => unknown;
  readonly state: () => unknown;
  readonly workers: () => Promise<readonly WorkerDump[]>;
  readonly registry: Registry;
  /** Takes the credentials that `culvert-agent join` has stored. */
  readonly rejoin: () => Promise<Rejoined>;
  /** A limit ended a connection to an endpoint. */
  readonly onCut: (endpoint: EndpointName, why: ConnectionCut) => void;
};

export const endpointNames = ['health', 'metrics', 'admin'] as const;
export type EndpointName = (typeof endpointNames)[number];

export type AgentEndpoints = AsyncDisposable & {
  /** 0: it does not listen. */
  readonly ports: { readonly admin: number; readonly metrics: number; readonly health: number };
  /** Why endpoints do not listen, which is tried again until they do; null: all do. */
  readonly problem: string | null;
  /** Tries now what does not listen. Never rejects. */
  readonly retry: () => Promise<void>;
  /** Their listening sockets, for the process that takes over. They stay the endpoints'. */
  readonly sockets: () => readonly number[];
  /** Serves the admin routes on a connection that only root can have made. */
  readonly serveAdmin: (socket: Socket) => void;
};

/**
 * Opens the endpoints of health and metrics. The admin routes are served through `serveAdmin`, and at an address only if one
 * is set. What cannot listen yet does later. With `beforeTakeOver` that holds only for an address that a process has, because it
 * may be the running agent, in another form: any other failure is thrown, as CulvertError `LISTEN_FAILED`.
 */
export async function openAgentEndpoints(o: {
  readonly sources: EndpointSources;
  readonly addresses: {
    /** Null: none, which keeps the other users of this host out. */
    readonly admin: ListenAddress | null;
    readonly metrics: ListenAddress;
    readonly health: ListenAddress;
  };
  /** Health and metrics are served with it; null: as plain HTTP. */
  readonly certificate: EndpointCertificate | null;
  /** Listening sockets of the process before, which become this function's: the ones that do not fit are closed. */
  readonly kept: readonly number[];
  readonly beforeTakeOver: boolean;
  readonly log: Log;
}): Promise<AgentEndpoints> {
  const { sources, addresses, log } = o;
  const wanted = Object.values(addresses).filter((address) => address !== null);
  const kept = fitting(o.kept, wanted);
  const opened: HttpEndpoint[] = [];
  const attempts: ListeningAttempts[] = [];
  const close = async (): Promise<void> => {
    for (const attempt of attempts) attempt.stop();
    await Promise.all(opened.map((endpoint) => endpoint[Symbol.asyncDispose]()));
  };
  const open = async (name: EndpointName, address: ListenAddress, routes: EndpointRoutes): Promise<HttpEndpoint> => {
    const keptFd = kept.get(address.port);
    kept.delete(address.port);
    const endpoint = new HttpEndpoint({
      routes,
      log,
      loopbackOnly: name === 'admin',
      onCut: (why) => sources.onCut(name, why),
      certificate: name === 'admin' ? null : o.certificate,
    });
    const listen = (fd: number | undefined): Promise<void> =>
      endpoint.listenOn({ address, setting: `--${name}-address`, keptFd: fd });
    const attempt = new ListeningAttempts({ listen, log });
    opened.push(endpoint);
    attempts.push(attempt);
    const failure = await attempt.start(keptFd);
    if (failure !== null && o.beforeTakeOver && !isInUse(failure)) throw failure;
    return endpoint;
  };
  try {
    const health = await open('health', addresses.health, healthRoutes(sources));
    const metrics = await open('metrics', addresses.metrics, metricsRoutes(sources));
    const routes = adminRoutes(sources, log);
    const admin = addresses.admin === null ? null : await open('admin', addresses.admin, routes);
    if (addresses.admin !== null) {
      log.warn({ ...addresses.admin }, 'every user of this host can read the state of the agent at --admin-address');
    }
    const listening = [...opened];
    const root = new HttpEndpoint({ routes, log, onCut: (why) => sources.onCut('admin', why) });
    opened.push(root);
    return {
      get ports() {
        return { admin: admin?.port ?? 0, metrics: metrics.port, health: health.port };
      },
      get problem() {
        const problems = attempts.flatMap(({ problem }) => problem ?? []);
        return problems.length === 0 ? null : problems.join('; ');
      },
      retry: async () => {
        await Promise.all(attempts.map((attempt) => attempt.retry()));
      },
      sockets: () => listening.filter(({ port }) => port !== 0).map((endpoint) => endpoint.fd),
      serveAdmin: (socket) => root.adopt(socket),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    for (const fd of kept.values()) closeSync(fd);
    await close();
    throw error;
  }
}

function isInUse(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : null;
  return cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE';
}

/** By port. The others are closed first, because a wanted address may overlap with theirs. */
function fitting(kept: readonly number[], wanted: readonly ListenAddress[]): Map<number, number> {
  const found = new Map<number, number>();
  for (const fd of kept) {
    const listener = listenerOf(fd);
    const fits = wanted.some((address) => listener !== null && isSame(address, listener));
    if (listener !== null && fits && !found.has(listener.port)) found.set(listener.port, fd);
    else closeSync(fd);
  }
  return found;
}

/** Of names only localhost is known without asking. */
function isSame(address: ListenAddress, listener: { readonly ip: string; readonly port: number }): boolean {
  if (address.port !== listener.port) return false;
  const isLoopback = listener.ip === '127.0.0.1' || listener.ip === '::1';
  return address.host === listener.ip || (address.host === 'localhost' && isLoopback);
}

function healthRoutes(sources: EndpointSources): EndpointRoutes {
  return {
    'GET /healthz': () => {
      const isAlive = sources.isAlive();
      return { status: isAlive ? 200 : 503, body: { ok: isAlive } };
    },
    'GET /readyz': () => {
      const { isReady, pending, degraded } = sources.readiness();
      return { status: isReady ? 200 : 503, body: { ready: isReady, pending, degraded } };
    },
  };
}

function metricsRoutes({ registry }: EndpointSources): EndpointRoutes {
  const text = sharedAnswer(() => registry.metrics());
  return {
    'GET /metrics': async () => ({ status: 200, body: await text(), contentType: registry.contentType }),
  };
}

function adminRoutes(sources: EndpointSources, log: Log): EndpointRoutes {
  return {
    'GET /config': () => ({ status: 200, body: sources.configuration() }),
    'GET /dump': async () => ({
      status: 200,
      body: { ...asObject(sources.state()), workers: await sources.workers() },
    }),
    'GET /connections': async () => {
      const dumps = await sources.workers();
      const connections = dumps.flatMap((dump) =>
        dump.connections.map((connection) => ({ worker: dump.workerIndex, ...connection })),
      );
      return { status: 200, body: { connections } };
    },
    'POST /rejoin': async () => ({ status: 200, body: await sources.rejoin() }),
    'GET /log': () => ({ status: 200, body: { level: log.level } }),
    'POST /log': (url) => {
      const level = url.searchParams.get('level') ?? '';
      if (!isLogLevel(level)) {
        throw new CulvertError({
          code: 'LEVEL_UNKNOWN',
          message: `"${level}" is not a log level`,
          hint: `use one of ${logLevels.join(', ')}, such as POST /log?level=debug`,
        });
      }
      log.level = level;
      log.warn({ level }, 'log level changed through the admin endpoint');
      return { status: 200, body: { level } };
    },
  };
}

function isLogLevel(text: string): text is LogLevel {
  return (logLevels as readonly string[]).includes(text);
}

function asObject(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {};
}
