import type { AnswerAlarm } from '../../../agent/control/credentials/answer-alarm.js';
import { ControlLink } from '../../../agent/control/control-link.js';
import type { NodeCredentials } from '../../../agent/control/credentials/node-credentials.js';
import { RegistryFollower } from '../../../agent/control/followers/registry-follower.js';
import type { AppliedRules, RulesAlarm } from '../../../agent/control/followers/rules-follower.js';
import type { RegistryMessage } from '../../../agent/dataplane/messages.js';
import type { IpAddress } from '../../../shared/address.js';
import { listedEntry, RegistryPages } from '../../../controller/inventory/registry-pages.js';
import { agentPermissions } from '../../../controller/nats/agent-permissions.js';
import type { Bucket } from '../../../shared/bus/bucket.js';
import type { Bus } from '../../../shared/bus/bus.js';
import { createUser, mintUserJwt } from '../../../shared/bus/nats-accounts.js';
import { buckets, consumerPrefixFor, rulesPointerKey } from '../../../shared/bus/subjects.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import { createLog } from '../../../shared/log.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { issueNodeCertificate } from '../../../controller/ca/x509/mesh-certificates.js';
import { generateSigningKey, type SigningKey } from '../../../shared/pki/signing-key.js';
import { plainSnapshot, type Snapshot } from '../../../shared/policy/snapshot.js';
import { openRegistryRoot, registryRootKey, sealRegistryRoot } from '../../../shared/wire/registry-root.js';
import { registryKey, type WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { pointerTo, snapshotKey } from '../../../shared/wire/rules-pointer.js';
import {
  openProvenRegistryEntry,
  openRegistryEntry,
  openSnapshot,
  sealRegistryEntry,
  sealSnapshot,
  snapshotReader,
} from '../../../shared/wire/signed.js';
import type { TrustHint } from '../../../shared/wire/trust-hint.js';
import { Inbox } from '../bus/bus-deadline.js';
import { NatsFixture, serverName } from '../bus/bus-fixture.js';
import { nodeNamed } from '../routing/names.js';

const settings = { history: 1, maxBytes: -1, replicas: 1 } as const;
const trustDomain = 'mesh.test';
const node = 'node1';

export function snapshotOf(revision: number, part: Partial<Snapshot> = {}): Snapshot {
  return {
    revision,
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: 'test',
    trustDomain,
    mesh: { defaultAction: 'deny', outbound: 'deny', mtls: 'STRICT', rootNamespace: 'culvert-system' },
    rules: [],
    authorizationPolicies: [],
    ...plainSnapshot,
    ...part,
  };
}

export function workloadOf(name: string, lastByte = 1): WorkloadEntry {
  return {
    kind: 'workload',
    namespace: 'shop',
    name,
    serviceAccount: name,
    identity: formatSpiffeId({ trustDomain, namespace: 'shop', serviceAccount: name }),
    labels: {},
    addresses: [`198.18.10.${lastByte}` as IpAddress],
    node: nodeNamed(node),
    netns: name,
    protocol: 'hbone',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
  };
}

/** The agent's link to a real nats-server, and the controller's hand that writes the buckets. */
export class LinkFixture implements AsyncDisposable {
  readonly nats: NatsFixture;
  readonly signingKey: SigningKey = generateSigningKey();
  readonly rules = new Inbox<number>();
  readonly alarms = new Inbox<RulesAlarm>();
  readonly answerAlarms = new Inbox<AnswerAlarm>();
  readonly registryMessages = new Inbox<RegistryMessage>();
  readonly logLines = new Inbox<string>();
  readonly connections = new Inbox<true>();
  readonly hints = new Inbox<TrustHint>();
  readonly statements = new Inbox<Uint8Array>();
  readonly enrolments = new Inbox<Uint8Array>();
  readonly untrusted = new Inbox<true>();
  registryAlarms = 0;
  registry!: RegistryFollower;
  link!: ControlLink;
  credentials!: NodeCredentials;
  controller!: Bus;
  rulesBucket!: Bucket;
  registryBucket!: Bucket;
  #leastRevision = 0;
  #sequence = 0;
  readonly #sealed = new Map<string, Uint8Array>();

  private constructor(nats: NatsFixture) {
    this.nats = nats;
  }

  static async start(o: { applied?: AppliedRules; leastRevision?: number } = {}): Promise<LinkFixture> {
    const fixture = new LinkFixture(await NatsFixture.start());
    fixture.#leastRevision = o.leastRevision ?? 0;
    await fixture.openBuckets();
    fixture.credentials = await fixture.#credentials();
    fixture.#startLink(o.applied ?? null);
    return fixture;
  }

  /** As the controller: makes the buckets, also after the store was wiped. */
  async openBuckets(): Promise<void> {
    this.controller = await this.nats.controller();
    this.rulesBucket = await this.controller.bucket(buckets.rules, { create: settings });
    this.registryBucket = await this.controller.bucket(buckets.registry, { create: settings });
  }

  async publishRules(snapshot: Snapshot, o: { key?: SigningKey; pointsTo?: number } = {}): Promise<Uint8Array> {
    const sealed = sealSnapshot({ snapshot, privateKeyPem: (o.key ?? this.signingKey).privateKey });
    await this.rulesBucket.put(snapshotKey(o.pointsTo ?? snapshot.revision), sealed);
    await this.point(o.pointsTo ?? snapshot.revision, sealed);
    return sealed;
  }

  async point(revision: number, sealed: Uint8Array): Promise<void> {
    await this.rulesBucket.put(rulesPointerKey, Buffer.from(JSON.stringify(pointerTo(revision, sealed))));
  }

  async publishWorkload(entry: WorkloadEntry, o: { key?: SigningKey; sequence?: number } = {}): Promise<void> {
    const sequence = o.sequence ?? ++this.#sequence;
    const privateKeyPem = (o.key ?? this.signingKey).privateKey;
    const sealed = sealRegistryEntry({ entry, sequence, privateKeyPem });
    this.#sealed.set(registryKey(entry), sealed);
    await this.registryBucket.put(registryKey(entry), sealed);
  }

  /** Names what the registry consists of, as the controller does after every change. */
  async publishList(
    entries: Readonly<Record<string, number>>,
    o: { key?: SigningKey; sequence?: number } = {},
  ): Promise<void> {
    const sequence = o.sequence ?? ++this.#sequence;
    const listed = Object.entries(entries).map(([key, at]) =>
      listedEntry({ key, sequence: at, sealed: this.#sealed.get(key) ?? new Uint8Array() }),
    );
    const pages = new RegistryPages();
    for (const entry of listed) pages.put(entry);
    const { root, changed } = pages.update(sequence);
    for (const [key, bytes] of changed) await this.registryBucket.put(key, bytes);
    const privateKeyPem = (o.key ?? this.signingKey).privateKey;
    await this.registryBucket.put(registryRootKey, sealRegistryRoot({ root, privateKeyPem }));
  }

  hasLogged(text: string): boolean {
    return this.logLines.items.some((line) => line.includes(text));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.registry.close();
    await this.link.close();
    await this.nats[Symbol.asyncDispose]();
  }

  #startLink(applied: AppliedRules | null): void {
    const log = createLog({ name: 'test', level: 'debug', stream: { write: (line) => this.logLines.push(line) } });
    const { credentials } = this;
    const reader = snapshotReader();
    this.registry = new RegistryFollower({
      open: (key, bytes) => openRegistryEntry({ key, bytes, publicKeysPem: credentials.signingPublicKeys }),
      openProven: (key, bytes) => openProvenRegistryEntry({ key, bytes }),
      openRoot: (bytes) => openRegistryRoot({ bytes, publicKeysPem: credentials.signingPublicKeys }),
      log,
      onChange: this.registryMessages.push,
      onStale: () => undefined,
      onAlarm: () => this.registryAlarms++,
    });
    this.link = new ControlLink({
      node: nodeNamed(node),
      credentials: () => credentials,
      registry: this.registry,
      appliedRules: applied,
      openSnapshot: (bytes) => openSnapshot({ bytes, publicKeysPem: credentials.signingPublicKeys, reader }),
      leastRevision: () => this.#leastRevision,
      enrolment: { take: (sealed) => this.enrolments.push(sealed), current: null },
      onStatement: this.statements.push,
      resyncIntervalMs: 1000,
      log,
      onRules: ({ snapshot }) => this.rules.push(snapshot.revision),
      onRulesAlarm: this.alarms.push,
      onAnswerRefused: this.answerAlarms.push,
      onTrustHint: this.hints.push,
      onUntrusted: () => this.untrusted.push(true),
      onConnected: () => this.connections.push(true),
    });
  }

  async #credentials(): Promise<NodeCredentials> {
    const user = createUser();
    const natsJwt = mintUserJwt({
      account: this.nats.server.account,
      userPublicKey: user.publicKey,
      name: node,
      permissions: agentPermissions(nodeNamed(node)),
      expiresAtMs: null,
    });
    const { csrPem, privateKeyPem } = await createCsr({ commonName: node });
    const issuer = this.nats.ca.issuing;
    const certificate = await issueNodeCertificate({
      issuer,
      csrPem,
      trustDomain,
      node: nodeNamed(node),
      ttlMs: 3_600_000,
    });
    return {
      node: nodeNamed(node),
      trustDomain,
      nodeKeyPem: privateKeyPem,
      nodeCertificatePem: certificate.chainPem,
      natsSeed: user.seed,
      natsUserPublicKey: user.publicKey,
      natsJwt,
      consumerPrefix: consumerPrefixFor(nodeNamed(node)),
      natsServers: [`127.0.0.1:${this.nats.server.port}`],
      natsServerName: serverName,
      natsCaPem: null,
      rootsPem: this.nats.ca.root.rootPem,
      signingPublicKeys: [this.signingKey.publicKey],
      notAfterMs: Date.now() + 3_600_000,
      obtainedAtMs: Date.now(),
    };
  }
}
