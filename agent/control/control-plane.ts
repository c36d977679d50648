import { CulvertError, describeError } from '../../shared/errors.js';
import type { SpiffeId } from '../../shared/identity.js';
import type { Heartbeat } from '../../shared/wire/requests.js';
import { openRegistryRoot } from '../../shared/wire/registry-root.js';
import { openProvenRegistryEntry, openRegistryEntry, openSnapshot, snapshotReader } from '../../shared/wire/signed.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import type { RegistryMessage } from '../dataplane/messages.js';
import { CertificateRotator, type WorkloadCertificate } from './credentials/certificate-rotator.js';
import type { ControlLink } from './control-link.js';
import type { ControlPlaneInit, Rejoined } from './control-plane-init.js';
import { CredentialsRotator } from './credentials/credentials-rotator.js';
import { TrustKeeper } from './credentials/trust-keeper.js';
import { RootsRecovery } from './join/roots-recovery.js';
import type { LastGoodState, RulesAndCertificates } from './state/last-good-state.js';
import type { NodeCredentials } from './credentials/node-credentials.js';
import { RegistryFollower } from './followers/registry-follower.js';
import type { RulesAge } from './followers/rules-age.js';
import { RulesAgeKeeper } from './followers/rules-age-keeper.js';
import type { AppliedRules } from './followers/rules-follower.js';
import { systemScheduler } from '../thread/scheduler.js';
import { longestPauseMs, StateSaver } from './state/state-saver.js';
import type { ProtectedWorkload } from './workloads/refusals.js';
import { reportedAlarms, type RefusalAlarms } from './followers/registry-refusals.js';
import { reportedWorkload } from './workloads/reported-workload.js';
import { LateAcceptPorts } from './workloads/late-accept-ports.js';
import { OwnWorkloads } from './workloads/own-workloads.js';
import { PodSandboxes } from './workloads/pod-sandboxes.js';
import { RegisteredAddresses } from './workloads/registered-addresses.js';
import { WorkloadReconciler } from './workloads/workload-reconciler.js';

/** A heartbeat reports a new registry once no other has followed for this long. */
const registryQuietMs = 200;

/**
 * Connects NATS to the data plane: receives rules, registry and certificates, keeps them on disk as the last good
 * state, and hands them to the workers and the capture. It starts from disk, so it serves before NATS has answered, and
 * it never waits for NATS. Owns its link and timers; pool and capture belong to the caller.
 */
export class ControlPlane {
  readonly #init: ControlPlaneInit;
  readonly #registry: RegistryFollower;
  readonly #certificates: CertificateRotator;
  readonly reconciler: WorkloadReconciler;
  readonly #addresses = new RegisteredAddresses({ elapsedMs: () => systemScheduler.elapsedMs() });
  readonly #saver: StateSaver;
  readonly #registrySaver: StateSaver;
  readonly #rulesAge: RulesAgeKeeper;
  readonly #savers: readonly Pick<StateSaver, 'abandon' | 'close'>[];
  readonly #reader = snapshotReader();
  readonly #credentials: CredentialsRotator;
  readonly #trust: TrustKeeper;
  readonly #recovery: RootsRecovery;
  readonly #own: OwnWorkloads;
  readonly sandboxes: PodSandboxes;
  readonly #latePorts = new LateAcceptPorts();
  #rules: AppliedRules | null = null;
  #link: ControlLink | null = null;
  /** Settles when {@link start} has made the link, or has failed to. */
  #linked: Promise<void> = Promise.resolve();
  #isStopped = false;
  #hasSaidGoodbye = false;
  #heartbeat: NodeJS.Timeout | null = null;
  #nextBeat: NodeJS.Timeout | null = null;

  constructor(init: ControlPlaneInit) {
    const { settings, log, metrics, pool } = init;
    this.#init = init;
    this.sandboxes = new PodSandboxes({ ...init, onChange: () => this.reconciler.setWanted(this.#own.wanted) });
    this.#own = new OwnWorkloads({ node: init.node, sandboxes: this.sandboxes });
    this.#credentials = new CredentialsRotator({
      credentials: init.credentials,
      renew: async (request) => (await this.#startedLink()).renew(request),
      write: (credentials) => init.directory.credentials.write(credentials),
      scheduler: systemScheduler,
      renewJitterPercent: settings.renewJitterPercent,
      log,
      onAnswerRefused: (kind) => metrics.answerRefused(kind),
      onWriteFailed: () => metrics.stateWriteFailed(),
      onNewRoots: () => this.#onCertificates(),
    });
    const saver = (write: () => Promise<void>, longestMs = longestPauseMs.rules): StateSaver =>
      new StateSaver({
        write,
        mayWrite: () => init.capture.whenInCharge(),
        longestPauseMs: longestMs,
        log,
        onFailure: () => metrics.stateWriteFailed(),
      });
    this.#saver = saver(() => init.directory.writeState(this.#state()));
    this.#registrySaver = saver(() => init.directory.saveRegistry(this.#registry), longestPauseMs.registry);
    this.#rulesAge = new RulesAgeKeeper({
      ...init,
      credentials: () => this.#credentials.current,
      saver,
      onAlarm: (kind) => metrics.rulesAlarm(kind),
    });
    this.#savers = [this.#saver, this.#registrySaver, this.#rulesAge, init.enrolment].filter((each) => each !== null);
    this.#registry = new RegistryFollower({
      open: (key, bytes) =>
        openRegistryEntry({ bytes, key, publicKeysPem: this.#credentials.current.signingPublicKeys }),
      openProven: (key, bytes) => openProvenRegistryEntry({ bytes, key }),
      openRoot: (bytes) => openRegistryRoot({ bytes, publicKeysPem: this.#credentials.current.signingPublicKeys }),
      log,
      onChange: (message) => this.#onRegistry(message),
      onStale: () => this.#registrySaver.schedule(),
      onAlarm: () => metrics.registryAlarm(),
    });
    this.#certificates = new CertificateRotator({
      sign: async (request) => (await this.#startedLink()).sign(request),
      scheduler: systemScheduler,
      renewJitterPercent: settings.renewJitterPercent,
      log,
      onAnswerRefused: (kind) => metrics.answerRefused(kind),
      onChange: () => this.#onCertificates(),
      onRoots: (rootsPem) => this.#credentials.takeRoots(rootsPem),
    });
    this.#trust = new TrustKeeper({
      credentials: this.#credentials,
      certificates: this.#certificates,
      scheduler: systemScheduler,
      log,
    });
    this.#recovery = new RootsRecovery({
      credentials: () => this.#credentials.current,
      controllerUrl: settings.controllerUrl,
      scheduler: systemScheduler,
      log,
      onRoots: (rootsPem) => this.#credentials.takeRoots(rootsPem),
      onOtherKeys: init.onOtherKeys,
    });
    this.reconciler = new WorkloadReconciler({
      capture: init.capture,
      listeners: {
        setWorkloads: (workloads) => pool.send({ type: 'workloads', workloads }),
        listeningOf: (workload) => pool.listeningOf(workload),
        isListening: (workload) => pool.isListening(workload),
      },
      ledger: init.ledger,
      scheduler: systemScheduler,
      log,
      captureWaitMs: settings.captureWaitMs,
      isServable: (identity) => pool.enforcedRevision !== null && this.#certificates.certificateOf(identity) !== null,
      isRegistryComplete: () => this.isRegistryComplete,
      onChange: init.onWorkloads,
      ownInode: init.ownInode,
      ownCgroup: init.ownCgroup,
    });
    pool.on('listening', () => this.reconciler.reconcile());
    pool.on('registered', () => this.#beatSoon());
    pool.on('applied', () => {
      this.reconciler.reconcile();
      // At once: an operator may be waiting for the rollout.
      this.#beat();
      this.#saver.schedule();
    });
  }

  /** Serves from `state` at once, then follows NATS. `statements`: what was the newest, sealed, as it was on disk. */
  async start(state: LastGoodState | undefined, statements: readonly Uint8Array[] = []): Promise<void> {
    await this.sandboxes.readFirst();
    this.#rulesAge.restore(statements);
    if (state !== undefined) this.#restore(state);
    this.#linked = this.#openLink();
    this.#linked.catch((error: unknown) => this.#init.log.error({ err: error }, 'the link to NATS could not be made'));
    this.#credentials.start();
    this.#heartbeat = setInterval(() => this.#beat(), this.#init.settings.heartbeatIntervalMs);
  }

  /** The client of NATS is the largest library of the agent: it is loaded when the last good state is in force. */
  async #openLink(): Promise<void> {
    const { settings, log, metrics, node } = this.#init;
    const { ControlLink } = await import('./control-link.js');
    if (this.#isStopped) return;
    this.#link = new ControlLink({
      node,
      credentials: () => this.#credentials.current,
      registry: this.#registry,
      appliedRules: this.#rules,
      openSnapshot: (bytes) =>
        openSnapshot({ bytes, publicKeysPem: this.#credentials.current.signingPublicKeys, reader: this.#reader }),
      leastRevision: () => this.#rulesAge.age.leastRevision,
      onStatement: (sealed) => this.#rulesAge.take(sealed),
      enrolment: this.#init.enrolment,
      resyncIntervalMs: settings.resyncIntervalMs,
      log,
      onRules: (rules) => this.#onRules(rules),
      onRulesAlarm: (kind) => {
        metrics.rulesAlarm(kind);
        this.#beat();
      },
      onAnswerRefused: (kind) => metrics.answerRefused(kind),
      onTrustHint: (hint) => this.#trust.onHint(hint),
      onUntrusted: () => this.#recovery.onUntrusted(),
      onConnected: () => this.#onConnected(),
    });
  }

  /**
   * Stops managing workloads. With `removesCapture` every workload is released; otherwise all capture rules stay. Until
   * {@link disconnect}, open connections are still checked against the rules and flow records are still sent. With
   * `hasSuccessor` the state on disk is another process's from then on. `isLastOfHost`: no agent follows.
   */
  async stop(o: {
    readonly removesCapture: boolean;
    readonly hasSuccessor: boolean;
    readonly isLastOfHost: boolean;
  }): Promise<void> {
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat);
    if (this.#nextBeat !== null) clearTimeout(this.#nextBeat);
    this.#trust.close();
    this.#recovery.close();
    this.#certificates.close();
    this.#credentials.close();
    // So the controller does not have to wait for missed heartbeats. Open connections may go on: the drain follows.
    if (o.isLastOfHost) this.#beat({ isLast: true });
    this.sandboxes.close();
    await this.reconciler.close();
    if (o.removesCapture) await this.reconciler.releaseAll();
    if (o.hasSuccessor) await Promise.all(this.#savers.map((each) => each.abandon()));
  }

  /** Call after {@link stop}: disconnects from NATS and writes the last state. */
  async disconnect(): Promise<void> {
    this.#isStopped = true;
    await this.#linked.catch(() => undefined);
    await this.#link?.close();
    this.#registry.close();
    for (const each of this.#savers) await each.close();
  }

  get isConnected(): boolean {
    return this.#link?.isConnected ?? false;
  }

  /** Why NATS cannot be reached; null: it is connected, or nothing is known. */
  get linkProblem(): string | null {
    return this.#link?.problem ?? null;
  }

  /** Why the node's own credentials were not renewed; null: they were. */
  get credentialsProblem(): string | null {
    return this.#credentials.problem;
  }

  /** Takes what `culvert-agent join` has stored. Throws CulvertError `NOT_JOINED` or `CREDENTIALS_FOREIGN`. */
  async rejoin(): Promise<Rejoined> {
    const { directory, log } = this.#init;
    const stored = await directory.readCredentials(log);
    if (stored === undefined) {
      throw new CulvertError({
        code: 'NOT_JOINED',
        message: 'the state directory has no credentials',
        hint: 'join first',
      });
    }
    const isComplete = this.#credentials.adopt(stored);
    this.#certificates.retryNow();
    return { isComplete };
  }

  get alarms(): RefusalAlarms {
    const { passedOver } = this.#reader;
    return { rulesAlarm: this.#link?.rulesAlarm ?? null, registryAlarm: this.#registry.alarm, passedOver };
  }

  get rulesAge(): RulesAge {
    return this.#rulesAge.age;
  }

  get appliedRevision(): number | null {
    return this.#rules?.snapshot.revision ?? null;
  }

  /** The rules in force on the control thread; null: none yet. */
  get snapshot(): Snapshot | null {
    return this.#rules?.snapshot ?? null;
  }

  /** For flow records, and to ask for what the controller says now. Rejects when the link has not been started. */
  async startedLink(): Promise<Pick<ControlLink, 'readNotices' | 'reportRecentFlows' | 'storeFlows'>> {
    return await this.#startedLink();
  }

  get isRegistryComplete(): boolean {
    return this.#registry.isComplete;
  }

  /** Numbers of listed entries that have not arrived, and of entries of a newer controller that cannot be read. */
  get registryGaps(): Pick<RegistryFollower, 'missing' | 'unreadable'> {
    return { missing: this.#registry.missing, unreadable: this.#registry.unreadable };
  }

  get watchProblem(): string | null {
    return this.reconciler.watchProblem ?? this.sandboxes.problem;
  }

  get stateProblem(): string | null {
    return this.#saver.problem ?? this.#registrySaver.problem;
  }

  get credentials(): NodeCredentials {
    return this.#credentials.current;
  }

  registryCounts(): { workloads: number; services: number } {
    return this.#registry.counts();
  }

  certificates(): readonly { readonly identity: SpiffeId; readonly notAfterMs: number }[] {
    return this.#certificates.certificates.map(({ identity, notAfterMs }) => ({ identity, notAfterMs }));
  }

  workloads(): readonly ProtectedWorkload[] {
    return this.#addresses.judged(this.reconciler.statuses()).map((status) => {
      const { identity } = status;
      const certificate = identity === null ? null : this.#certificates.certificateOf(identity);
      return {
        ...status,
        certificateNotAfterMs: certificate?.notAfterMs ?? null,
        certificateProblem: identity === null ? null : this.#certificates.problemOf(identity),
        certificateChain: certificate === null ? null : this.#trust.verified(certificate.chainPem),
      };
    });
  }

  /** For the admin endpoint; without keys, seeds and tokens. */
  dump(): object {
    const { node, trustDomain, natsServers, notAfterMs } = this.#credentials.current;
    return {
      node,
      trustDomain,
      nodeCertificateNotAfter: new Date(notAfterMs).toISOString(),
      nats: { servers: natsServers, isConnected: this.isConnected, server: this.#link?.server ?? null },
      appliedRevision: this.appliedRevision,
      enforcedRevision: this.#init.pool.enforcedRevision,
      registry: {
        ...this.registryCounts(),
        isComplete: this.isRegistryComplete,
        ...this.registryGaps,
        sequence: this.#registry.sequence,
      },
      snapshot: this.#rules?.snapshot ?? null,
      workloads: this.workloads(),
      certificates: this.#certificates.dump(),
    };
  }

  #restore(state: LastGoodState): void {
    const { log } = this.#init;
    if (state.sealedSnapshot !== null) {
      try {
        const publicKeysPem = this.#credentials.current.signingPublicKeys;
        const snapshot = openSnapshot({ bytes: state.sealedSnapshot, publicKeysPem, reader: this.#reader });
        this.#onRules({ snapshot, sealed: state.sealedSnapshot });
      } catch (error) {
        log.error(
          { problem: describeError(error) },
          'the rules on disk are refused: no traffic is allowed until new ones arrive',
        );
      }
    }
    // Those of a mesh that this host has left prove nothing to others.
    const isVerified = ({ chainPem }: WorkloadCertificate): boolean => this.#trust.verified(chainPem) !== null;
    this.#certificates.restore(state.certificates.filter(isVerified));
    this.#onCertificates();
    this.#registry.restore(state.registry);
    log.info(
      { revision: this.appliedRevision, registryEntries: this.#registry.entries.size },
      'serving from the last good state',
    );
  }

  #state(): RulesAndCertificates {
    return {
      sealedSnapshot: this.#rules?.sealed ?? null,
      certificates: [...this.#certificates.certificates],
    };
  }

  #onRegistry(message: RegistryMessage): void {
    this.#init.pool.send(message);
    if (this.#latePorts.useRegistry(message)) this.reconciler.setLatePorts(this.#latePorts.ports);
    this.#own.useRegistry(message, this.#registry.unreadableWorkloads);
    const { wanted } = this.#own;
    for (const { name } of this.reconciler.statuses()) if (!wanted.has(name)) this.#init.metrics.workloadGone(name);
    this.#certificates.setIdentities(this.#own.identities);
    this.reconciler.setWanted(wanted);
  }

  /** Throws if the rules cannot be evaluated; the current ones stay in force. */
  #onRules(rules: AppliedRules): void {
    this.#init.pool.send({ type: 'rules', snapshot: rules.snapshot });
    if (this.#latePorts.useExternals(rules.snapshot.externals)) this.reconciler.setLatePorts(this.#latePorts.ports);
    // Saved once the workers have the rules: encoding a large state takes time, which would delay the workers.
    this.#rules = rules;
  }

  #onCertificates(): void {
    const { rootsPem } = this.#credentials.current;
    this.#init.pool.send({ type: 'certificates', rootsPem, certificates: this.#certificates.forWorkers() });
    this.reconciler.reconcile();
    this.#saver.schedule();
  }

  #onConnected(): void {
    this.#certificates.retryNow();
    this.#credentials.retryNow();
    this.#beat();
  }

  /**
   * For those who wait for a change of the registry. While changes keep coming, the beats of every few seconds have to do: a
   * beat for each, of every agent, would cost the controller more than the changes.
   */
  #beatSoon(): void {
    if (this.#nextBeat === null) this.#nextBeat = setTimeout(() => this.#beat(), registryQuietMs);
    else this.#nextBeat.refresh();
  }

  #beat(more: Pick<Heartbeat, 'isLast'> = {}): void {
    if (this.#hasSaidGoodbye) return;
    this.#hasSaidGoodbye = more.isLast === true;
    const { node, version, startedAtMs, pool, said } = this.#init;
    const { appliedRevision } = this;
    const nowMs = Date.now();
    this.#link?.publishHeartbeat({
      node,
      version,
      appliedRevision,
      enforcedByAllWorkers: appliedRevision !== null && pool.enforcedRevision === appliedRevision,
      ...reportedAlarms(this.alarms),
      ...this.#rulesAge.report(),
      registrySequence: this.#registry.sequence,
      inventorySequence: pool.registeredSequence,
      nowMs,
      startedAtMs,
      ...more,
      workloads: this.workloads().map((workload) => reportedWorkload(workload, nowMs)),
      trust: this.#trust.report(),
      ...said(),
    });
  }

  async #startedLink(): Promise<ControlLink> {
    await this.#linked;
    if (this.#link === null) throw new Error('the link to NATS has not been started');
    return this.#link;
  }
}
