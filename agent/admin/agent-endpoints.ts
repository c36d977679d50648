import { closeSync } from 'node:fs';
import type { Registry } from 'prom-client';
import { CulvertError } from '../../shared/errors.js';
import { logLevels, type Log, type LogLevel } from '../../shared/log.js';
import type { ListenAddress } from '../../shared/config/listen-address.js';
import type { WorkerDump } from '../dataplane/messages.js';
import { listenerOf } from '../native/passed-sockets.js';
import type { ConnectionCut } from '../../shared/http/bounded-server.js';
import { sharedAnswer } from '../../shared/http/shared-answer.js';
import { HttpEndpoint, type EndpointRoutes } from './http-endpoint.js';
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
  /** A limit ended a connection to an endpoint. */
  readonly onCut: (endpoint: EndpointName, why: ConnectionCut) => void;
};

export const endpointNames = ['health', 'metrics', 'admin'] as const;
export type EndpointName = (typeof endpointNames)[number];

export type AgentEndpoints = AsyncDisposable & {
  readonly ports: { readonly admin: number; readonly metrics: number; readonly health: number };
  /** Their listening sockets, for the process that takes over. They stay the endpoints'. */
  readonly sockets: () => readonly number[];
};

/** Opens the three endpoints: health and metrics for the network, admin for operators on this host. */
export async function openAgentEndpoints(o: {
  readonly sources: EndpointSources;
  readonly addresses: {
    readonly admin: ListenAddress;
    readonly metrics: ListenAddress;
    readonly health: ListenAddress;
  };
  /** Listening sockets of the process before, which become this function's: the ones that do not fit are closed. */
  readonly kept: readonly number[];
  readonly log: Log;
}): Promise<AgentEndpoints> {
  const { sources, addresses, log } = o;
  const kept = fitting(o.kept, Object.values(addresses));
  const opened: HttpEndpoint[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(opened.map((endpoint) => endpoint[Symbol.asyncDispose]()));
  };
  const open = async (name: EndpointName, routes: EndpointRoutes): Promise<number> => {
    const address = addresses[name];
    const keptFd = kept.get(address.port);
    kept.delete(address.port);
    const endpoint = await HttpEndpoint.listen({
      address,
      routes,
      log,
      setting: `--${name}-address`,
      loopbackOnly: name === 'admin',
      onCut: (why) => sources.onCut(name, why),
      ...(keptFd === undefined ? {} : { keptFd }),
    });
    opened.push(endpoint);
    return endpoint.port;
  };
  try {
    const health = await open('health', healthRoutes(sources));
    const metrics = await open('metrics', metricsRoutes(sources));
    const admin = await open('admin', adminRoutes(sources, log));
    const sockets = (): readonly number[] => opened.map((endpoint) => endpoint.fd);
    return { ports: { admin, metrics, health }, sockets, [Symbol.asyncDispose]: close };
  } catch (error) {
    for (const fd of kept.values()) closeSync(fd);
    await close();
    throw error;
  }
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
