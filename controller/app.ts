import { join } from 'node:path';
import type { CulvertError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { version } from '../shared/version.js';
import { AdminCredential } from './access/admin-credential.js';
import { UserAccounts } from './access/user-accounts.js';
import { admissionPath, admissionRoutes } from './api/admission-routes.js';
import { advanceRoutes } from './api/advance-routes.js';
import { ApiServer, assertApiCanListen } from './api/api-server.js';
import { ControllerMetrics } from './api/controller-metrics.js';
import { flowRoutes } from './api/flow-routes.js';
import { DocumentReader } from './api/reading/document-reader.js';
import { healthRoutes } from './api/health-routes.js';
import { historyRoutes } from './api/history-routes.js';
import { auditLogRoutes } from './api/audit-log-routes.js';
import { caRoutes } from './api/ca-routes.js';
import { joinRoutes } from './api/join-routes.js';
import { meshRoutes } from './api/mesh-routes.js';
import { resourceRoutes } from './api/resource-routes.js';
import { rolloutRoutes } from './api/rollout-routes.js';
import { nodeRoutes } from './api/node-routes.js';
import { tokenRoutes } from './api/token-routes.js';
import { userRoutes } from './api/user-routes.js';
import { openAuditLog } from './audit-log/open-audit-log.js';
import { rootHashes } from '../shared/pki/root-hash.js';
import { ConfirmationFile } from './ca/rotation-confirmations.js';
import { ConfirmationRecorder } from './fleet/confirmation-recorder.js';
import { CaFiles } from './ca/ca-files.js';
import { openMeshCa } from './ca/open-mesh-ca.js';
import { advertisedNames, apiNamesOf } from './ca/server-names.js';
import { controllerSpiffeId } from '../shared/identity.js';
import { SpiffeBundle } from './ca/spiffe-bundle.js';
import { ServerCertificate } from './ca/server-certificate.js';
import { SignService } from './ca/sign-service.js';
import { ClosingStack } from './closing-stack.js';
import type { WorkloadName } from '../shared/routing/names.js';
import type { RegistryEntry, WorkloadEntry } from '../shared/routing/registry-entry.js';
import { joinHostPort, parseListenAddress } from '../shared/config/listen-address.js';
import type { ControllerSettings } from './config/settings.js';
import { fixTrustDomain } from './config/trust-domain-file.js';
import { NatsRevocations } from './fleet/nats-revocations.js';
import { WithdrawnIdentities } from './fleet/withdrawn-identities.js';
import { FlowHistory } from './flows/flow-history.js';
import { flowOrigin } from './flows/flow-origin.js';
import { markTellers } from './flows/told-by.js';
import { WorkloadPlacements } from './flows/workload-placements.js';
import { JoinService } from './join/join-service.js';
import { JoinTokens } from './join/join-tokens.js';
import { NodeMembers } from './join/node-members.js';
import { NodeCredentials } from './join/node-credentials.js';
import { startMaintenance } from './maintenance.js';
import { MeshEventFacts } from './fleet/event-facts.js';
import { asRuleStore, MeshRuleFacts } from './fleet/rule-facts.js';
import { MeshLink } from './mesh-link.js';
import { RevisionCompiler } from './release/compiled-revision.js';
import { sealKeys } from './keys/key-files.js';
import { KeyVault } from './keys/key-vault.js';
import { openReleaseKey } from './release/release-key.js';
import { AgentRegistry } from './fleet/agent-registry.js';
import { positionOf } from './fleet/agents-ahead.js';
import { lastHeartbeats } from './fleet/last-heartbeats.js';
import { NodesWithoutAgent } from './fleet/nodes-without-agent.js';
import { assertNatsCanStart, openMeshNats, type MeshNats } from './nats/mesh-nats.js';
import { StatementPublisher } from './publish/statement-publisher.js';
import { openCluster } from './kubernetes/open-cluster.js';
import { assertOnlyMesh } from './kubernetes/other-mesh.js';
import type { ReplicasState } from './kubernetes/replicas.js';
import { openStore } from './store/open-store.js';
import { keepPrivate } from '../shared/private-state.js';
import { makeStateDirectory } from '../shared/private-file.js';
import type { ResourceStore } from './store/resource-store.js';
import { lockState, lockWarnings } from './store/state-lock.js';
import { namesInControllerState } from './store/state-names.js';

export type ControllerOptions = {
  readonly settings: ControllerSettings;
  readonly log: Log;
  /** Of several controllers with one state; absent: there is one. */
  readonly replicas?: () => ReplicasState;
  /** Another process may write in the state directory: this one has to end at once. */
  readonly onStateLost?: (error: CulvertError) => void;
  /** For tests; milliseconds since the epoch. */
  readonly nowMs?: () => number;
};

/** A controller in this process. Disposing it stops it and its nats-server. */
export interface RunningController extends AsyncDisposable {
  /** Address of the API, under the first advertised name. */
  readonly url: string;
  readonly port: number;
  readonly adminToken: string;
  /** The root certificates of the mesh, PEM. */
  readonly caPem: string;
  /** `host:port` of each NATS server, as agents receive them. */
  readonly natsServers: readonly string[];
  readonly store: ResourceStore;
  /** Resolves when NATS holds the applied revision. */
  readonly ready: Promise<void>;
}

/**
 * Starts everything. When it returns the API answers; NATS may still be unreachable (`ready`). Throws CulvertError when a
 * setting, the state directory or nats-server is unusable; its hint says what to do.
 */
export async function startController(options: ControllerOptions): Promise<RunningController> {
  const { log, nowMs = Date.now } = options;
  const closing = new ClosingStack({ log });
  try {
    return await open({ ...options, nowMs, closing });
  } catch (error) {
    await closing[Symbol.asyncDispose]();
    throw error;
  }
}

async function open(
  init: ControllerOptions & { readonly nowMs: () => number; readonly closing: ClosingStack },
): Promise<RunningController> {
  const { settings, log, nowMs, closing } = init;
  const { stateDir, trustDomain } = settings;
  const listen = parseListenAddress(settings.listen, '--listen');
  const advertise = advertisedNames(settings.advertise);
  const isFirst = !(await CaFiles.areIn(stateDir));
  if (isFirst) {
    // A start that cannot succeed makes no CA.
    await assertApiCanListen(listen);
    await assertNatsCanStart(settings);
  }
  await makeStateDirectory(stateDir);
  const { onStateLost: onLost = (error) => log.fatal({ err: error }, 'the state directory is lost') } = init;
  const watch = { onLost, onTakenBack: (message: string) => log.warn(message) };
  const lock = await lockState(stateDir, { isFilesEnough: settings.unsafeWithoutKernelLock, watch });
  closing.push('lock', lock.release);
  for (const { message, hint } of lockWarnings(lock)) log.warn({ hint }, message);
  // Not before the lock: a controller that runs in this directory may have the port too.
  if (!isFirst) await assertApiCanListen(listen);
  await keepPrivate(stateDir, namesInControllerState, log);
  await fixTrustDomain(stateDir, trustDomain);

  // Created before anything that counts. Gauges are read later.
  const metrics = new ControllerMetrics({
    readGauges: () => ({
      revision: store.release.state.revision,
      isSettled: store.isSettled,
      isNatsConnected: link.isConnected,
      natsRestarts: nats.restarts,
      agents: agents.list(positionOf(store)),
      resources: countByKind(store),
      flowEntries: flows.entries,
      usableTokens: tokens.usable,
      auditLog,
      issuingCaNotAfterMs: ca.issuingNotAfterMs,
      issuer: ca.external,
    }),
  });
  const { auditLog, trail, maintain: maintainAuditLog, close: closeAuditLog } = await openAuditLog(init);
  closing.push('audit log', closeAuditLog);
  const vault = await KeyVault.open(settings.keyPassphraseFile, { stateDir });
  await sealKeys({ stateDir, vault, log });
  await assertOnlyMesh(settings);
  const { ca, close: closeCa } = await openMeshCa({
    settings,
    vault,
    log,
    nowMs,
    onAsked: (outcome, durationMs) => metrics.issuerAsked(outcome, durationMs),
    onTrust: (change) => trail.noted('ca.roots', change),
  });
  closing.push('issuer', closeCa);
  const caFiles = new CaFiles({ stateDir, vault });
  const signingKey = await openReleaseKey(stateDir, vault);
  const builder = new RevisionCompiler({ trustDomain, privateKeyPem: signingKey.privateKey });
  const { store, close: closeStore } = await openStore({
    stateDir,
    trustDomain,
    builder,
    privateKeyPem: signingKey.privateKey,
    limits: { maxRevisions: settings.historyRevisions, maxBytes: settings.historyBytes },
    hasCluster: settings.kubernetesApi !== null,
    log,
    nowMs,
  });
  closing.push('journal', closeStore);
  const kubernetes = openCluster({
    settings,
    source: (name) => store.inventory.source(name),
    rootsPem: () => ca.rootsPem,
    signingKey,
    admissionPath: admissionPath(signingKey.privateKey),
    nowMs,
    log,
    onInstallation: () => statements.noteChange(),
  });
  if (kubernetes !== null) closing.push('kubernetes', () => kubernetes[Symbol.asyncDispose]());
  const tokens = await JoinTokens.open({ path: join(stateDir, 'tokens.json'), nowMs, caHash: () => ca.rootHash, log });
  const members = await NodeMembers.open({
    path: join(stateDir, 'nodes.json'),
    credentialTtlMs: settings.nodeCertificateTtl,
    nowMs,
  });
  const agents = new AgentRegistry({
    log,
    nowMs,
    staleAfterMs: settings.agentStaleAfter,
    clockSkewWarningMs: settings.clockSkewWarning,
    forgetAfterMs: Math.max(settings.nodeCertificateTtl, 86_400_000),
    isRemoved: (node) => members.isRemoved(node),
  });
  kubernetes?.followRules({ store: asRuleStore(store, trail), facts: new MeshRuleFacts({ store, agents, nowMs }) });
  const nodes = new NodesWithoutAgent({ agents, members, tokens });
  const eventFacts = new MeshEventFacts({ store, agents, nodes, version });
  kubernetes?.tellEvents(eventFacts);
  kubernetes?.takeTaints(eventFacts);
  const onRefused = ({ operation }: { operation: string }): void => metrics.natsRefused(operation);
  const nats = await openMeshNats({
    settings,
    advertise,
    ca,
    vault,
    log,
    nowMs,
    onRefused,
    revoked: members.revokedUsers,
  });
  closing.push('nats', () => nats[Symbol.asyncDispose]());

  const revocations = new NatsRevocations({ members, nats, log });
  const identities = new WithdrawnIdentities({ members, inventory: store.inventory, log });
  // A node may have been removed, or have joined again, just before the last stop.
  await identities.apply();
  const credentials = new NodeCredentials({
    ca,
    members,
    account: nats.account,
    signingPublicKeys: [signingKey.publicKey],
  });
  const signing = new SignService({
    ca,
    isRegistered: (node, identity) => store.inventory.registry.hasIdentity(node, identity),
    trustDomain,
    log,
    onSigned: () => metrics.certificateSigned(),
    onRefused: (reason) => metrics.certificateRefused(reason),
  });
  const entryOf = (key: string): RegistryEntry | undefined => store.inventory.registry.published.get(key)?.entry;
  const workload = (name: WorkloadName): WorkloadEntry | undefined => {
    const entry = entryOf(`workload.${name.replace('/', '.')}`);
    return entry?.kind === 'workload' ? entry : undefined;
  };
  const placements = new WorkloadPlacements({
    path: join(stateDir, 'placements.json'),
    retentionMs: settings.flowRetention,
    nowMs,
    log,
    entryOf,
    present: store.inventory.registry.published.keys(),
  });
  await placements.restore();
  store.inventory.onChange(({ published }) => placements.noteChanges(published));
  closing.push('placements', () => placements.save());
  const origin = flowOrigin({ workload, placements });
  const flows = new FlowHistory({
    retentionMs: settings.flowRetention,
    maxBytes: flowBytes(settings, nats, log),
    file: join(stateDir, 'recent-flows.json'),
    isOwn: (node, flow, atMs) => origin(node, flow, atMs) !== 'foreign',
    mark: (records) =>
      markTellers(records, { workload, isOwn: (record) => origin(record.node, record, null) === 'own' }),
    wasOut: (node, atMs) => members.wasOut(node, atMs),
    nowMs,
    log,
    onBatch: (outcome) => metrics.flowBatch(outcome),
  });
  await flows.restore();
  const statements = new StatementPublisher({
    newest: async () => ({
      ...(await store.newest()),
      ...(kubernetes?.isUninstalled === true ? { isUninstalled: true } : {}),
    }),
    privateKeyPem: signingKey.privateKey,
    nowMs,
    log,
  });
  const link = new MeshLink({
    statements,
    enrolments: kubernetes?.enrolments ?? null,
    nats,
    store,
    agents,
    members,
    flows,
    signing,
    trustDomain,
    rootsPem: () => ca.rootsPem,
    nowMs,
    lifetimes: { workloadTtlMs: settings.workloadCertificateTtl, nodeTtlMs: settings.nodeCertificateTtl },
    credentials,
    signingKey,
    metrics,
    trustHint: () => ({ roots: rootHashes(ca.rootsPem), signsUnder: ca.rootHash }),
    log,
  });
  closing.push('link', () => link[Symbol.asyncDispose]());
  // Agents that are uninstalled with it have to be told first.
  closing.push('agents', () => {
    if (kubernetes?.isUninstalled !== true) return undefined;
    return lastHeartbeats({ states: () => agents.list(positionOf(store)).map(({ state }) => state) });
  });
  closing.push('flows', () => flows.save());
  const confirmations = new ConfirmationRecorder({ agents, file: new ConfirmationFile({ stateDir }), log });
  closing.push('confirmations', () => confirmations[Symbol.asyncDispose]());
  const joining = new JoinService({
    tokens,
    review: kubernetes?.review ?? null,
    isRemoved: (node) => members.isRemoved(node),
    credentials,
    nats: () => nats.advertisement,
    trustDomain,
    log,
    nowMs,
    statement: () => statements.sealed(),
    begin: (node, source) => trail.begin({ user: 'anonymous', source, action: 'node.join', target: node }),
    onJoined: async (node) => {
      metrics.joined();
      agents.noteJoined(node);
      await identities.apply();
    },
    onRefused: (reason) => metrics.joinRefused(reason),
  });
  const bundle = new SpiffeBundle({ stateDir, rootsPem: () => ca.rootsPem, nowMs });
  const names = apiNamesOf(settings.advertise);
  const certificate = await ServerCertificate.issue({
    ca,
    names,
    spiffeId: controllerSpiffeId(trustDomain),
    store: { files: caFiles, name: 'server-api' },
    nowMs,
  });
  const admin = await AdminCredential.open(stateDir);
  const users = await UserAccounts.open({ path: join(stateDir, 'users.json'), nowMs, log });
  const reader = new DocumentReader({ log });
  closing.push('reader', () => reader[Symbol.asyncDispose]());
  const pending = () => link.pending;
  const server = new ApiServer({
    identity: certificate.current,
    routes: [
      ...healthRoutes({ pending, metrics }),
      ...joinRoutes({ joining }),
      ...admissionRoutes({ path: admissionPath(signingKey.privateKey), admit: kubernetes?.admit ?? null }),
      ...caRoutes({ ca, bundle, agents, users, signingKeyPem: signingKey.privateKey, trustDomain }),
      ...resourceRoutes({ store, reader, nodes, onChange: (result) => metrics.changed(result) }),
      ...historyRoutes({ store, onChange: (result) => metrics.changed(result) }),
      ...rolloutRoutes({ store, agents, nodes }),
      ...advanceRoutes({ store, agents }),
      ...flowRoutes({ flows, agents: () => agents.list(positionOf(store)), nowMs }),
      ...userRoutes({ users }),
      ...auditLogRoutes({ auditLog }),
      ...tokenRoutes({ tokens, tokenTtlMs: settings.tokenTtl, controllerUrl: () => url }),
      ...nodeRoutes({
        members,
        tokens,
        agents,
        revocations,
        identities,
        inventory: () => store.inventory.entries,
        log,
      }),
      ...meshRoutes({
        store,
        agents,
        members,
        nodes,
        ca,
        trustDomain,
        stateDir,
        lock,
        startedAtMs: nowMs(),
        nowMs,
        pending,
        kubernetes: () => kubernetes?.state ?? null,
        replicas: () => init.replicas?.() ?? null,
      }),
    ],
    authenticate: (authorization) => admin.authenticate(authorization) ?? users.authenticate(authorization),
    trail,
    nextRoot: () => ca.nextRootHash,
    log,
    onAnswered: (answered) => metrics.answered(answered),
    onCut: (why) => metrics.connectionCut(why),
  });
  closing.push('api', () => server[Symbol.asyncDispose]());
  const port = await server.listen(listen.host, listen.port);
  const url = `https://${joinHostPort(advertise[0] ?? 'localhost', port)}`;
  await admin.writeContext({ url, caPem: ca.rootsPem });
  const maintenance = startMaintenance({
    everyMs: Math.min(60_000, settings.serverCertificateTtl / 10),
    log,
    tasks: [
      () => ca.refresh(),
      () => nats.renewCertificate(),
      async () => {
        if (await certificate.renewIfDue()) server.replaceIdentity(certificate.current);
      },
      () => admin.writeContext({ url, caPem: ca.rootsPem }),
      () => agents.forgetSilent(),
      () => revocations.retry(),
      () => link.sweep(),
      () => identities.retry(),
      () => flows.storeLeftBehind(),
      () => placements.save(),
      maintainAuditLog,
    ],
  });
  closing.push('maintenance', () => maintenance[Symbol.asyncDispose]());
  const { revision } = store.release.state;
  // Without a journal it is known only when NATS has answered.
  log.info({ url, trustDomain, ...(revision === 0 ? {} : { revision }) }, 'the controller is serving');

  return {
    url,
    port,
    adminToken: admin.token,
    get caPem() {
      return ca.rootsPem;
    },
    natsServers: nats.advertisement.natsServers,
    store,
    ready: link.settled,
    [Symbol.asyncDispose]: () => closing[Symbol.asyncDispose](),
  };
}

/** The stream may take a quarter of a small disk at most: nats-server creates none that is larger than the disk. */
function flowBytes({ flowMaxBytes }: ControllerSettings, { capacityBytes }: MeshNats, log: Log): number {
  const mostBytes = Math.floor((capacityBytes ?? Number.POSITIVE_INFINITY) / 4);
  if (capacityBytes === null || capacityBytes === 0 || flowMaxBytes <= mostBytes) return flowMaxBytes;
  log.warn({ flowMaxBytes, mostBytes }, 'the disk is small: flow records get a quarter of it, not --flow-max-bytes');
  return mostBytes;
}

function countByKind(store: ResourceStore): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { resource } of store.release.state.resources.values()) {
    counts.set(resource.kind, (counts.get(resource.kind) ?? 0) + 1);
  }
  const { workloads, services } = store.inventory.registry.registered.counts;
  if (workloads > 0) counts.set('Workload', workloads);
  if (services > 0) counts.set('Service', services);
  return counts;
}
