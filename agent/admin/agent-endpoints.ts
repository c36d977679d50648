import type { Registry } from 'prom-client';
import { CulvertError } from '../../shared/errors.js';
import { logLevels, type Log, type LogLevel } from '../../shared/log.js';
import type { ListenAddress } from '../../shared/config/listen-address.js';
import type { WorkerDump } from '../dataplane/messages.js';
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
};

export type AgentEndpoints = AsyncDisposable & {
  readonly ports: { readonly admin: number; readonly metrics: number; readonly health: number };
};

/** Opens the three endpoints: health and metrics for the network, admin for operators on this host. */
export async function openAgentEndpoints(o: {
  readonly sources: EndpointSources;
  readonly addresses: {
    readonly admin: ListenAddress;
    readonly metrics: ListenAddress;
    readonly health: ListenAddress;
  };
  readonly log: Log;
}): Promise<AgentEndpoints> {
  const { sources, addresses, log } = o;
  const opened: HttpEndpoint[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(opened.map((endpoint) => endpoint[Symbol.asyncDispose]()));
  };
  const open = async (setting: string, address: ListenAddress, routes: EndpointRoutes): Promise<number> => {
    const loopbackOnly = setting === '--admin-address';
    const endpoint = await HttpEndpoint.listen({ address, routes, log, setting, loopbackOnly });
    opened.push(endpoint);
    return endpoint.port;
  };
  try {
    const health = await open('--health-address', addresses.health, healthRoutes(sources));
    const metrics = await open('--metrics-address', addresses.metrics, metricsRoutes(sources));
    const admin = await open('--admin-address', addresses.admin, adminRoutes(sources, log));
    return { ports: { admin, metrics, health }, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
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

function metricsRoutes(sources: EndpointSources): EndpointRoutes {
  return {
    'GET /metrics': async () => ({
      status: 200,
      body: await sources.registry.metrics(),
      contentType: sources.registry.contentType,
    }),
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
