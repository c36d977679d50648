import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { controllerPermissions } from './agent-permissions.js';
import type { Bus, StoreGuard } from '../../shared/bus/bus.js';
import { connectBus } from '../../shared/bus/connect-bus.js';
import { createUser, mintUserJwt, nkeyPairFromSeed, type NkeyPair } from '../../shared/bus/nats-accounts.js';
import { controllerInboxPrefix } from '../../shared/bus/subjects.js';
import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { CertificateIssuer } from '../ca/certificate-issuer.js';
import { CaFiles } from '../ca/ca-files.js';
import { embeddedNatsName } from '../ca/server-names.js';
import type { KeyVault } from '../keys/key-vault.js';
import { ServerCertificate } from '../ca/server-certificate.js';
import { joinHostPort, parseListenAddress } from '../../shared/config/listen-address.js';
import type { ControllerSettings } from '../config/settings.js';
import { startEmbeddedNats, type EmbeddedNats } from './embedded-nats.js';
import type { RevokedUser } from '../join/node-members.js';
import { natsServerVersion } from './nats-binary.js';
import type { RefusedOperation } from './nats-log-line.js';
import { assertCanListen } from './nats-process.js';
import { StateDisk } from './state-disk.js';
import { StoreWatch } from './store-watch.js';
import { readNamedFile } from '../../shared/named-file.js';

/** How agents reach NATS; they get it at the join. */
export type NatsAdvertisement = {
  /** `host:port` of each server, best first. */
  readonly natsServers: readonly string[];
  /** The name in the servers' certificates; null: the host that was dialled. */
  readonly natsServerName: string | null;
  /** Null: the mesh CA issued the servers' certificates. */
  readonly natsCaPem: string | null;
};

/** The NATS of the mesh: the controller's own child process, or the operator's servers. */
export interface MeshNats extends AsyncDisposable {
  /** Signs the credentials of agents. */
  readonly account: NkeyPair;
  /** How often the embedded server was restarted; 0 for the operator's servers. */
  readonly restarts: number;
  /** Sent to agents when they join. */
  readonly advertisement: NatsAdvertisement;
  /** Retries until it is connected. Rejects only with the signal. */
  connect(signal: AbortSignal, onProblem: (error: unknown) => void): Promise<Bus>;
  /** What keeps the store from taking writes; null when nothing does. */
  readonly problem: StoreWatch['problem'];
  /** Room for the streams on the disk of the embedded server; null for the operator's servers. */
  readonly capacityBytes: number | null;
  /** Watches the store until the signal aborts, and restarts the embedded server when it hangs. Never rejects. */
  watch(bus: Bus, signal: AbortSignal): Promise<void>;
  /** Renews the certificate of the embedded server when due. */
  renewCertificate(): Promise<void>;
  /** Replaces the list of revoked users. False: only the operator of the servers can do it. */
  revoke(users: readonly RevokedUser[]): Promise<boolean>;
}

export type MeshNatsOptions = {
  readonly settings: ControllerSettings;
  /** Names and addresses under which hosts reach this one, preferred first. */
  readonly advertise: readonly string[];
  readonly ca: CertificateIssuer;
  /** Absent: the keys of the embedded server are in the clear. */
  readonly vault?: KeyVault;
  readonly log: Log;
  readonly nowMs: () => number;
  readonly onRefused: (refused: RefusedOperation) => void;
  /** Users that are revoked already. */
  readonly revoked: readonly RevokedUser[];
};

/**
 * Finds before anything is written what would keep NATS from starting: settings, the program, and another one on its port.
 * Errors: those of {@link openMeshNats}.
 */
export async function assertNatsCanStart(settings: ControllerSettings): Promise<void> {
  advertisedServers(settings);
  if (settings.nats !== 'embedded') {
    await externalServers(settings);
    return;
  }
  const listen = parseListenAddress(settings.natsListen, '--nats-listen');
  await natsServerVersion('nats-server');
  await assertCanListen(listen);
}

/** Errors: those of `startEmbeddedNats`, and `CONFIG_INVALID`. */
export async function openMeshNats(options: MeshNatsOptions): Promise<MeshNats> {
  return options.settings.nats === 'embedded' ? openEmbedded(options) : openExternal(options);
}

async function openEmbedded(options: MeshNatsOptions): Promise<MeshNats> {
  const { settings, ca, vault, log, nowMs, onRefused } = options;
  const configured = advertisedServers(settings);
  const listen = parseListenAddress(settings.natsListen, '--nats-listen');
  const certificate = await ServerCertificate.issue({
    ca,
    names: [embeddedNatsName],
    store: {
      files: new CaFiles({ stateDir: settings.stateDir, ...(vault === undefined ? {} : { vault }) }),
      name: 'server-nats',
    },
    nowMs,
  });
  const server: EmbeddedNats = await startEmbeddedNats({
    stateDir: join(settings.stateDir, 'nats'),
    listen,
    tls: certificate.current,
    ...(vault === undefined ? {} : { vault }),
    revoked: timesOf(options.revoked),
    log,
    onRefused,
  });
  const disk = new StateDisk({ directory: settings.stateDir });
  await disk.measure();
  const watch = new StoreWatch({
    log,
    server: { disk, isRunning: () => server.pid !== undefined, restart: (why) => server.restart(why) },
  });
  const advertised = configured ?? options.advertise.map((name) => joinHostPort(name, server.port));
  const own = joinHostPort(loopbackFor(listen.host), server.port);
  return {
    account: server.account,
    get restarts() {
      return server.restarts;
    },
    advertisement: { natsServers: advertised, natsServerName: embeddedNatsName, natsCaPem: null },
    connect: (signal, onProblem) =>
      connectAs(
        server.account,
        { servers: [own], caPem: () => ca.rootsPem, servername: embeddedNatsName, storeGuard: watch.guard },
        signal,
        onProblem,
      ),
    get problem() {
      return watch.problem;
    },
    capacityBytes: disk.space.totalBytes,
    watch: (bus, signal) => watch.run(bus, signal),
    renewCertificate: async () => {
      if (await certificate.renewIfDue()) await server.replaceCertificate(certificate.current);
    },
    revoke: async (users) => {
      await server.revoke(timesOf(users));
      return true;
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

async function externalServers(settings: ControllerSettings): Promise<{
  readonly servers: readonly string[];
  readonly account: NkeyPair;
  readonly natsCaPem: string | null;
}> {
  const servers = natsServers(settings.nats.split(','), '--nats');
  const seed = await readSettingFile(settings.natsAccountSeedFile, '--nats-account-seed-file');
  if (seed === undefined) {
    throw new CulvertError({
      code: 'CONFIG_INVALID',
      message: '--nats names your own servers, but --nats-account-seed-file is missing',
      hint: 'name a file with the seed of the account, which nsc list keys --show-seeds prints',
    });
  }
  const account = nkeyPairFromSeed(seed);
  const natsCaPem = (await readSettingFile(settings.natsCaFile, '--nats-ca-file')) ?? null;
  return { servers, account, natsCaPem };
}

async function openExternal({ settings, ca, log }: MeshNatsOptions): Promise<MeshNats> {
  const { servers, account, natsCaPem } = await externalServers(settings);
  const advertised = advertisedServers(settings) ?? servers.map((server) => server.replace(/^[a-z]+:\/\//, ''));
  const disk = new StateDisk({ directory: settings.stateDir });
  await disk.measure();
  const watch = new StoreWatch({ server: null, disk, log });
  return {
    account,
    restarts: 0,
    advertisement: { natsServers: advertised, natsServerName: null, natsCaPem },
    connect: (signal, onProblem) =>
      connectAs(
        account,
        { servers, caPem: () => natsCaPem ?? ca.rootsPem, storeGuard: watch.guard },
        signal,
        onProblem,
      ),
    get problem() {
      return watch.problem;
    },
    capacityBytes: null,
    watch: (bus, signal) => watch.run(bus, signal),
    renewCertificate: async () => undefined,
    revoke: async () => false,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

function timesOf(users: readonly RevokedUser[]): Map<string, number> {
  return new Map(users.map(({ publicKey, revokedAtMs }) => [publicKey, revokedAtMs]));
}

function advertisedServers({ natsAdvertise }: ControllerSettings): readonly string[] | null {
  return natsAdvertise === null ? null : natsServers(natsAdvertise, '--nats-advertise');
}

/** Takes `host:port` with or without `tls://` or `nats://`. Throws CulvertError `CONFIG_INVALID`. */
function natsServers(texts: readonly string[], setting: string): string[] {
  const servers = texts.map((text) => text.trim());
  const wrong = servers.find((server) => {
    const address = server.replace(/^(?:tls|nats):\/\//, '');
    return !/^[^/@?#\s]+$/.test(address) || !URL.canParse(`tcp://${address}`);
  });
  if (wrong === undefined) return servers;
  throw new CulvertError({
    code: 'CONFIG_INVALID',
    message: `${setting}: "${wrong}" is not the address of a NATS server`,
    hint: 'write it as tls://nats.example.net:4222, several separated by commas',
  });
}

/** Connects as a new user, which exists in memory only. */
function connectAs(
  account: NkeyPair,
  where: {
    readonly servers: readonly string[];
    readonly caPem: () => string;
    readonly servername?: string;
    readonly storeGuard: StoreGuard;
  },
  signal: AbortSignal,
  onProblem: (error: unknown) => void,
): Promise<Bus> {
  const user = createUser();
  const { servers, caPem, servername, storeGuard } = where;
  const jwt = mintUserJwt({
    account,
    userPublicKey: user.publicKey,
    name: 'culvert-controller',
    permissions: controllerPermissions,
    expiresAtMs: null,
  });
  return connectBus({
    servers,
    tls: servername === undefined ? { caPem } : { caPem, servername },
    auth: { kind: 'jwt', jwt, seed: user.seed },
    name: 'culvert-controller',
    // No node can know it, so what delivers there is of this process.
    inboxPrefix: `${controllerInboxPrefix}.${randomBytes(16).toString('hex')}`,
    signal,
    onProblem,
    storeGuard,
  });
}

/** A server that listens on all addresses is dialled on loopback. */
function loopbackFor(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}

/** More than a seed or a chain of certificates has. */
const maxFileBytes = 1024 * 1024;

async function readSettingFile(path: string | null, setting: string): Promise<string | undefined> {
  if (path === null) return undefined;
  const file = await readNamedFile(path, { maxBytes: maxFileBytes });
  if (file.isRead) return file.bytes.toString('utf8');
  throw new CulvertError({
    code: 'CONFIG_INVALID',
    message: `${setting}: cannot read ${path}: ${file.problem}`,
    hint: `check the path that ${setting} names`,
    cause: file.cause,
  });
}
