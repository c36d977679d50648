import { rm, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { reconnectDelayMs } from '../../shared/bus/reconnect-delay.js';
import type { NkeyPair } from '../../shared/bus/nats-accounts.js';
import type { Log } from '../../shared/log.js';
import type { KeyVault } from '../keys/key-vault.js';
import type { ServerKeyPair } from '../ca/server-certificate.js';
import { makeStateDirectory, writePrivateFile } from '../../shared/private-file.js';
import { natsServerVersion, type NatsVersion } from './nats-binary.js';
import { openFilesLimit } from '../../shared/open-files.js';
import { ClientLines } from '../access/client-lines.js';
import { canSyncAlways, renderNatsConfig } from './nats-config.js';
import { loadNatsKeys, mintNatsTokens, type NatsKeys, type NatsTokens } from './nats-keys.js';
import { clientOf, type NatsLogLine, type RefusedOperation } from './nats-log-line.js';
import { startNatsProcess, type NatsProcess } from './nats-process.js';
import { stopOrphan } from './orphan.js';

export type EmbeddedNatsOptions = {
  /** Holds everything of the server: keys, configuration, certificate, store. Created with mode 0700. */
  readonly stateDir: string;
  /** Port 0: the first start picks a free port, which restarts keep. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly tls: ServerKeyPair;
  /** Absent: its keys are in the clear. */
  readonly vault?: KeyVault;
  /** Users whose tokens no longer count, with the time in milliseconds since the epoch; default: none. */
  readonly revoked?: ReadonlyMap<string, number>;
  /** Limit of the store. Default: the whole disk; nats-server's own would be a part of what is free when it starts. */
  readonly maxStoreBytes?: number;
  readonly log: Log;
  /** Called for every connection, publication and subscription that the server refused. */
  readonly onRefused: (refused: RefusedOperation) => void;
  /** Default: `nats-server` in the PATH. */
  readonly command?: string;
};

/**
 * A nats-server as a child process, in operator mode, with TLS and a JetStream file store. It is restarted when it dies,
 * and ends with the controller. One that survives a SIGKILL of the controller is stopped at the next start.
 */
export interface EmbeddedNats extends AsyncDisposable {
  /** The port that it listens on; restarts keep it. */
  readonly port: number;
  readonly pid: number | undefined;
  /** How often it was restarted, after it died or was ended by {@link restart}. */
  readonly restarts: number;
  /** Signs the tokens of the controller and of agents (`mintUserJwt`). */
  readonly account: NkeyPair;
  /** Whether acknowledged writes are on disk (since nats-server 2.10). If not, a journal is needed to rebuild the store. */
  readonly isSyncedAlways: boolean;
  /** Switches to a new certificate without dropping a connection. */
  replaceCertificate(tls: ServerKeyPair): Promise<void>;
  /** Replaces the list of revoked users: their connections end, and new ones are refused. */
  revoke(revoked: ReadonlyMap<string, number>): Promise<void>;
  /** Ends the running process; it is started again at once. Returns when it has ended. */
  restart(why: string): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Starts the server and waits until it accepts clients. Errors: `NATS_SERVER_MISSING`, `NATS_SERVER_TOO_OLD`,
 * `NATS_START_FAILED`, `NATS_KEYS_INVALID`, `STATE_WRITE`.
 */
export async function startEmbeddedNats(options: EmbeddedNatsOptions): Promise<EmbeddedNats> {
  const command = options.command ?? 'nats-server';
  const version = await natsServerVersion(command);
  const stateDir = resolve(options.stateDir);
  await makeStateDirectory(stateDir);
  const keys = await loadNatsKeys(join(stateDir, 'keys.json'), options.vault);
  const server = new SupervisedNats({ ...options, command, stateDir, version, keys });
  await server.start();
  return server;
}

/** -1 for a file system that does not say. */
async function diskBytes(directory: string): Promise<number> {
  const { blocks, bsize } = await statfs(directory);
  return blocks > 0 ? blocks * bsize : -1;
}

type SupervisedNatsInit = EmbeddedNatsOptions & {
  readonly command: string;
  readonly version: NatsVersion;
  readonly keys: NatsKeys;
};

/** A run that lasted this long was healthy: the restart delay goes back to its minimum. */
const healthyRunMs = 30_000;

class SupervisedNats implements EmbeddedNats {
  readonly account: NkeyPair;
  readonly isSyncedAlways: boolean;
  port: number;
  restarts = 0;
  readonly #init: SupervisedNatsInit;
  readonly #stopping = new AbortController();
  #process: NatsProcess | undefined;
  #supervision: Promise<void> | undefined;
  /** A reload refuses another token of the operator, so all but the account's stay the same. */
  #tokens: NatsTokens;
  #restartReason: string | null = null;
  /** The port in the configuration file; undefined before it is written. */
  #writtenPort: number | undefined;
  #maxStoreBytes: number | undefined;
  readonly #clientLines = new ClientLines();

  constructor(init: SupervisedNatsInit) {
    this.#init = init;
    this.account = init.keys.mesh;
    this.isSyncedAlways = canSyncAlways(init.version);
    this.port = init.listen.port;
    this.#tokens = mintNatsTokens(init.keys, -1, init.revoked);
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async start(): Promise<void> {
    const orphan = await stopOrphan(this.#path('nats-server.pid'), this.#path('nats-server.conf'));
    if (orphan !== undefined)
      this.#init.log.warn({ pid: orphan }, 'stopped a nats-server that an earlier controller left running');
    await this.#writeCertificate(this.#init.tls);
    await this.#launch();
    if (!this.isSyncedAlways) {
      this.#init.log.info(
        'this nats-server syncs its store only every two minutes; after a power failure the journal of the controller restores it',
      );
    }
    this.#supervision = this.#supervise();
  }

  async replaceCertificate(tls: ServerKeyPair): Promise<void> {
    await this.#writeCertificate(tls);
    await this.#process?.reload();
  }

  async revoke(revoked: ReadonlyMap<string, number>): Promise<void> {
    this.#tokens = { ...this.#tokens, meshJwt: mintNatsTokens(this.#init.keys, -1, revoked).meshJwt };
    // If it cannot be written now, the next start writes it, and does not start with the old one.
    this.#writtenPort = undefined;
    await this.#writeConfiguration();
    await this.#process?.reload();
  }

  async restart(why: string): Promise<void> {
    this.#restartReason = why;
    await this.#process?.stop();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#process?.stop();
    await this.#supervision;
    await rm(this.#path('nats-server.pid'), { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #supervise(): Promise<void> {
    const { signal } = this.#stopping;
    let attempt = 0;
    let startedAtMs = Date.now();
    while (this.#process !== undefined) {
      const how = await this.#process.exited;
      this.#process = undefined;
      if (signal.aborted) return;
      if (this.#restartReason === null) this.#init.log.error({ how }, 'nats-server died; restarting it');
      else this.#init.log.warn({ why: this.#restartReason }, 'ended nats-server; starting it again');
      this.#restartReason = null;
      if (Date.now() - startedAtMs > healthyRunMs) attempt = 0;
      await this.#relaunch(() => attempt++);
      startedAtMs = Date.now();
    }
  }

  /** Retries until the server runs or the signal aborts. */
  async #relaunch(nextAttempt: () => number): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await delay(reconnectDelayMs(nextAttempt()), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        const process = await this.#launch();
        this.restarts += 1;
        // Stopped meanwhile: `supervise` still waits for this process to end.
        if (signal.aborted) await process.stop();
        return;
      } catch (error) {
        this.#init.log.error({ err: error }, 'could not restart nats-server; trying again');
      }
    }
  }

  async #launch(): Promise<NatsProcess> {
    const { command } = this.#init;
    // A restart needs no new file, so that it works on a full disk too.
    if (this.#writtenPort !== this.port) await this.#writeConfiguration();
    const process = await startNatsProcess({
      command,
      configFile: this.#path('nats-server.conf'),
      pidFile: this.#path('nats-server.pid'),
      onLine: (line) => this.#takeLine(line),
    });
    this.#process = process;
    this.port = process.port;
    return process;
  }

  #takeLine(line: NatsLogLine): void {
    // Its normal messages are logged at debug; its warnings and errors concern the operator.
    const level = line.level === 'info' || !this.#isShown(line.text) ? 'debug' : line.level;
    if (line.event?.kind !== 'refused') {
      this.#init.log[level]({ component: 'nats-server' }, line.text);
      return;
    }
    const { kind, ...refused } = line.event;
    void kind;
    this.#init.log[level]({ component: 'nats-server', ...refused }, line.text);
    this.#init.onRefused(refused);
  }

  /** What is beyond the bound of lines about clients is there at the level debug, and refusals are counted all the same. */
  #isShown(text: string): boolean {
    const client = clientOf(text);
    return client === null || this.#clientLines.take(client, performance.now());
  }

  async #writeConfiguration(): Promise<void> {
    const { listen, keys, version, maxStoreBytes, stateDir } = this.#init;
    // Measured once: a reload that changes the limit is refused.
    this.#maxStoreBytes ??= maxStoreBytes ?? (await diskBytes(stateDir));
    const config = renderNatsConfig({
      host: listen.host,
      port: this.port,
      certificateFile: this.#path('server.pem'),
      keyFile: this.#path('server.key'),
      storeDir: this.#path('store'),
      keys,
      tokens: this.#tokens,
      maxStoreBytes: this.#maxStoreBytes,
      // Those of this process: the server gets its limit from it.
      openFiles: openFilesLimit(),
      version,
    });
    await writePrivateFile(this.#path('nats-server.conf'), config);
    this.#writtenPort = this.port;
  }

  async #writeCertificate(tls: ServerKeyPair): Promise<void> {
    await writePrivateFile(this.#path('server.key'), tls.privateKeyPem);
    await writePrivateFile(this.#path('server.pem'), tls.chainPem);
  }

  #path(name: string): string {
    return join(this.#init.stateDir, name);
  }
}
