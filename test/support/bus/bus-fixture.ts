import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServerKeyPair } from '../../../controller/ca/server-certificate.js';
import { startEmbeddedNats, type EmbeddedNats } from '../../../controller/nats/embedded-nats.js';
import type { RefusedOperation } from '../../../controller/nats/nats-log-line.js';
import { agentPermissions, controllerPermissions } from '../../../controller/nats/agent-permissions.js';
import type { Bus } from '../../../shared/bus/bus.js';
import { connectBus, type ConnectBusOptions } from '../../../shared/bus/connect-bus.js';
import { createUser, mintUserJwt, type UserPermissions } from '../../../shared/bus/nats-accounts.js';
import { consumerPrefixFor, controllerInboxPrefix, inboxPrefixFor } from '../../../shared/bus/subjects.js';
import { createLog } from '../../../shared/log.js';
import {
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from '../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { issueServerCertificate } from '../../../controller/ca/x509/mesh-certificates.js';
import { nodeNamed } from '../routing/names.js';
import { patientSignal } from '../../lab/patience.js';
import { ownPort } from '../own-port.js';

export const serverName = 'nats.mesh.test';

/** Resolves when the server has taken everything that this bus sent before, subscriptions too. The controller's only. */
export async function settled(bus: Bus): Promise<void> {
  await bus.request('$JS.API.INFO', new Uint8Array(), { timeoutMs: 5000 });
}

/** A real nats-server with TLS from a real mesh CA in a directory of its own, and users on it. */
export class NatsFixture implements AsyncDisposable {
  readonly stateDir: string;
  readonly refused: RefusedOperation[] = [];
  readonly logLines: string[] = [];
  readonly ca: { root: CertificateAuthority; issuing: CertificateAuthority };
  server!: EmbeddedNats;
  readonly #buses: Bus[] = [];

  private constructor(init: { stateDir: string; ca: { root: CertificateAuthority; issuing: CertificateAuthority } }) {
    this.stateDir = init.stateDir;
    this.ca = init.ca;
  }

  /** `parent`: where its directory is made. */
  static async start(parent = tmpdir()): Promise<NatsFixture> {
    const root = await createRootCa({ trustDomain: 'mesh.test' });
    const issuing = await createIssuingCa({ root, trustDomain: 'mesh.test' });
    const stateDir = await mkdtemp(join(parent, 'culvert-nats-'));
    const fixture = new NatsFixture({ stateDir, ca: { root, issuing } });
    await fixture.startServer(await ownPort());
    return fixture;
  }

  async startServer(port: number): Promise<void> {
    const stream = { write: (line: string): void => void this.logLines.push(line) };
    this.server = await startEmbeddedNats({
      stateDir: join(this.stateDir, 'nats'),
      listen: { host: '127.0.0.1', port },
      tls: await this.serverTls(3_600_000),
      log: createLog({ name: 'test', level: 'debug', stream }),
      onRefused: (refused) => this.refused.push(refused),
    });
  }

  async serverTls(ttlMs: number): Promise<ServerKeyPair> {
    const { csrPem, privateKeyPem } = await createCsr({ commonName: serverName });
    const { chainPem } = await issueServerCertificate({
      issuer: this.ca.issuing,
      csrPem,
      dnsNames: [serverName],
      ipAddresses: ['127.0.0.1'],
      ttlMs,
    });
    return { chainPem, privateKeyPem };
  }

  /** Connects as the controller. */
  controller(overrides: Partial<ConnectBusOptions> = {}): Promise<Bus> {
    return this.connect('controller', controllerPermissions, `${controllerInboxPrefix}.${randomUUID()}`, overrides);
  }

  /** Connects as the agent of a node, with exactly an agent's permissions. */
  agent(node: string, overrides: Partial<ConnectBusOptions> = {}): Promise<Bus> {
    const name = nodeNamed(node);
    const consumerPrefix = (): string => consumerPrefixFor(name);
    return this.connect(node, agentPermissions(name), inboxPrefixFor(name), { consumerPrefix, ...overrides });
  }

  /** As {@link agent}, with a credential that agents of the version before need. */
  earlierAgent(node: string): Promise<Bus> {
    const name = nodeNamed(node);
    return this.connect(node, agentPermissions(name, { anyConsumer: true }), inboxPrefixFor(name));
  }

  async connect(
    name: string,
    permissions: UserPermissions,
    inboxPrefix: string,
    overrides: Partial<ConnectBusOptions> = {},
  ): Promise<Bus> {
    const user = createUser();
    const jwt = mintUserJwt({
      account: this.server.account,
      userPublicKey: user.publicKey,
      name,
      permissions,
      expiresAtMs: null,
    });
    const bus = await connectBus({
      servers: [`127.0.0.1:${this.server.port}`],
      tls: { caPem: this.ca.root.rootPem },
      auth: { kind: 'jwt', jwt, seed: user.seed },
      name,
      inboxPrefix,
      signal: patientSignal(45_000),
      ...overrides,
    });
    this.#buses.push(bus);
    return bus;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bus of this.#buses) await bus.close();
    await this.server.stop();
    await rm(this.stateDir, { recursive: true, force: true });
  }
}
