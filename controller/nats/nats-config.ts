import type { NatsKeys, NatsTokens } from './nats-keys.js';
import { isAtLeast, type NatsVersion } from './nats-binary.js';

/**
 * Maximum size of a message. It fits a snapshot of rules in base64 (see `maxSnapshotBytes`) and is the most that NATS
 * recommends.
 */
const natsMaxPayloadBytes = 8 * 1024 * 1024;

export type NatsConfig = {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly storeDir: string;
  readonly keys: NatsKeys;
  readonly tokens: NatsTokens;
  /** -1: the server's default, three quarters of the disk space that is free when it starts. */
  readonly maxStoreBytes: number;
  /** How many descriptors the server can have open; infinite: it is not known. */
  readonly openFiles: number;
  readonly version: NatsVersion;
};

/** The server's own limit of connections. */
const mostConnections = 65_536;
/** Descriptors that connections leave to the store, which opens files all the time; a quarter where there are few. */
const mostStoreFiles = 8192;

/** Where clients could take every descriptor, strangers too, the server could write no file of its store. */
function connectionsOf(openFiles: number): number {
  if (!Number.isFinite(openFiles)) return mostConnections;
  return Math.max(1, Math.min(mostConnections, openFiles - Math.min(mostStoreFiles, Math.ceil(openFiles / 4))));
}

/**
 * The configuration file of the embedded server; its syntax is a superset of JSON. In operator mode the file lists no
 * users: each presents a token that the mesh account signed. Source: docs.nats.io, "Configuring NATS Server".
 */
export function renderNatsConfig(config: NatsConfig): string {
  const { keys, tokens } = config;
  const document = {
    server_name: 'culvert',
    host: config.host,
    port: config.port === 0 ? -1 : config.port,
    logtime: false,
    max_payload: natsMaxPayloadBytes,
    max_connections: connectionsOf(config.openFiles),
    // Bytes buffered for one client. A client that does not read is disconnected.
    max_pending: 64 * 1024 * 1024,
    write_deadline: '10s',
    ping_interval: '15s',
    ping_max: 2,
    tls: { cert_file: config.certificateFile, key_file: config.keyFile, timeout: 5 },
    authorization: { timeout: 5 },
    operator: tokens.operatorJwt,
    system_account: keys.system.publicKey,
    resolver: 'MEMORY',
    resolver_preload: { [keys.system.publicKey]: tokens.systemJwt, [keys.mesh.publicKey]: tokens.meshJwt },
    jetstream: {
      store_dir: config.storeDir,
      ...(config.maxStoreBytes === -1 ? {} : { max_file_store: config.maxStoreBytes }),
      ...(canSyncAlways(config.version) ? { sync_interval: 'always' } : {}),
    },
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** Whether the server can sync every write before it acknowledges it. Older servers always sync every two minutes. */
export function canSyncAlways(version: NatsVersion): boolean {
  return isAtLeast(version, { major: 2, minor: 10, patch: 0 });
}
