import { setTimeout as delay } from 'node:timers/promises';
import type { Bucket } from '../../shared/bus/bucket.js';
import type { Bus } from '../../shared/bus/bus.js';
import { connectBus } from '../../shared/bus/connect-bus.js';
import {
  buckets,
  enrolmentKeyFor,
  inboxPrefixFor,
  rulesPointerKey,
  subjectFor,
  type BusVerb,
} from '../../shared/bus/subjects.js';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { pageKeyPrefix } from '../../shared/wire/registry-leaf.js';
import { registryRootKey } from '../../shared/wire/registry-root.js';
import { openAnswer } from '../../shared/wire/sealed-answer.js';
import { newestStatementKey } from '../../shared/wire/newest-statement.js';
import { decodeTrustHint, trustHintKey, type TrustHint } from '../../shared/wire/trust-hint.js';
import { enrolmentAnswerSchema } from '../../shared/wire/node-enrolment.js';
import { recentAnswerSchema, type RecentAnswer } from '../../shared/wire/recent-flows.js';
import { sealRequest } from '../../shared/wire/sealed-request.js';
import {
  decodeWire,
  encodeWire,
  renewResponseSchema,
  signResponseSchema,
  type Heartbeat,
  type RenewRequest,
  type RenewResponse,
  type SignRequest,
  type SignResponse,
} from '../../shared/wire/requests.js';
import type { AnswerAlarm } from './credentials/answer-alarm.js';
import type { NodeCredentials } from './credentials/node-credentials.js';
import type { EnrolmentFollower } from './followers/enrolment-follower.js';
import { EnrolmentList } from './followers/enrolment-list.js';
import type { RegistryFollower } from './followers/registry-follower.js';
import { RulesFollower, type AppliedRules, type RulesAlarm } from './followers/rules-follower.js';
import type { NodeName } from '../../shared/routing/names.js';

const requestTimeoutMs = 10_000;
/** The next report follows soon, and replaces one without an answer. */
const recentTimeoutMs = 3000;
const bindRetryMs = 1000;

/**
 * The agent's only connection to NATS: follows rules and registry, and carries the agent's requests. It connects when
 * the servers are up and reconnects whenever it is lost; no other part waits for it. Owns the bus; `close` ends
 * everything.
 */
export class ControlLink {
  readonly #init: ControlLinkInit;
  readonly #abort = new AbortController();
  readonly #run: Promise<void>;
  #bus: Bus | null = null;
  #rules: RulesFollower | null = null;
  #readNotices: () => Promise<void> = async () => undefined;
  /** Of the JWT with which the link connected last. */
  #consumerPrefix: string | null = null;
  #lastProblem = '';

  constructor(init: ControlLinkInit) {
    this.#init = init;
    this.#run = this.#follow().catch((error: unknown) => {
      if (!this.#abort.signal.aborted) init.log.error({ err: error }, 'link to NATS ended');
    });
  }

  get isConnected(): boolean {
    return this.#bus?.status === 'connected';
  }

  /** Host and port of the server; null before the first connection. */
  get server(): string | null {
    return this.#bus?.server ?? null;
  }

  /** Why the last attempt to reach NATS failed; null: it is connected, or nothing is known. */
  get problem(): string | null {
    return this.isConnected || this.#lastProblem === '' ? null : this.#lastProblem;
  }

  /** Why the newest rules were refused; null: they were not. */
  get rulesAlarm(): string | null {
    return this.#rules?.alarm ?? null;
  }

  /** Rejects, with `SIGNATURE_INVALID` for example, if the controller did not sign the answer to this very request. */
  async sign(request: SignRequest): Promise<SignResponse> {
    return decodeWire(signResponseSchema, await this.#request('sign', request));
  }

  async renew(request: RenewRequest): Promise<RenewResponse> {
    return decodeWire(renewResponseSchema, await this.#request('renew', request));
  }

  /** Lost while NATS is down; the next heartbeat replaces it. */
  publishHeartbeat(heartbeat: Heartbeat): void {
    this.#bus?.publish(subjectFor('status', this.#init.node), encodeWire(heartbeat));
  }

  /** Stores a batch of flow records in the stream. Errors as in `Bus`. */
  async storeFlows(bytes: Uint8Array): Promise<void> {
    const options = { timeoutMs: requestTimeoutMs, signal: this.#abort.signal };
    await this.#reachedBus().store(subjectFor('flows', this.#init.node), bytes, options);
  }

  /** Gives the controller flows that are not stored yet; returns when to do it again. Errors as in `Bus`. */
  async reportRecentFlows(bytes: Uint8Array): Promise<RecentAnswer> {
    const asked = { subject: subjectFor('recent', this.#init.node), request: bytes };
    return decodeWire(recentAnswerSchema, await this.#ask('recent', asked, recentTimeoutMs));
  }

  /** Reads now what is otherwise read now and then: the newest statement, and hints of the controller. Never rejects. */
  async readNotices(): Promise<void> {
    if (this.isConnected) await this.#readNotices();
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#bus?.drain().catch((error: unknown) => this.#init.log.debug({ err: error }, 'NATS not drained'));
    await this.#run;
  }

  /** The list as it is sealed; null: the controller does not know it yet. */
  async #askForEnrolment(): Promise<Uint8Array | null> {
    const { list } = decodeWire(enrolmentAnswerSchema, await this.#request('enrolment', {}));
    return list === null ? null : Buffer.from(list);
  }

  /** Returns the answer's JSON after checking its signature. */
  async #request(verb: BusVerb, body: object): Promise<Uint8Array> {
    const subject = subjectFor(verb, this.#init.node);
    const asked = { subject, request: sealRequest({ subject, body, nodeKey: this.#init.credentials() }) };
    return await this.#ask(verb, asked, requestTimeoutMs);
  }

  async #ask(
    verb: BusVerb,
    asked: { readonly subject: string; readonly request: Uint8Array },
    timeoutMs: number,
  ): Promise<Uint8Array> {
    const bytes = await this.#reachedBus().request(asked.subject, asked.request, {
      timeoutMs,
      signal: this.#abort.signal,
    });
    try {
      return openAnswer({ asked, bytes, publicKeysPem: this.#init.credentials().signingPublicKeys });
    } catch (error) {
      this.#init.onAnswerRefused('unsigned');
      this.#init.log.error(
        { alarm: 'unsigned', verb, problem: describeError(error) },
        'an answer that the controller did not sign was refused; nothing changes',
      );
      throw error;
    }
  }

  #reachedBus(): Bus {
    if (this.#bus !== null) return this.#bus;
    throw new CulvertError({
      code: 'BUS_DISCONNECTED',
      message: 'NATS has not been reached yet',
      hint: 'check that the controller is running and that this host can reach its NATS address',
    });
  }

  async #follow(): Promise<void> {
    const { signal } = this.#abort;
    const bus = await this.#connect();
    this.#bus = bus;
    this.#init.log.info({ server: bus.server }, 'connected to NATS');
    this.#init.onConnected();
    const stopStatus = bus.onStatus((status) => this.#onStatus(status));
    const stopDenied = bus.onDenied((denied) => {
      this.#init.log.error(
        { ...denied },
        'NATS denied an operation that the agent needs: its credential belongs to another version or node',
      );
    });
    try {
      const rulesBucket = await this.#bind(bus, buckets.rules);
      const registryBucket = await this.#bind(bus, buckets.registry);
      const rules = this.#startRules(rulesBucket);
      const watch = rulesBucket.watch({
        key: rulesPointerKey,
        onEntry: () => void rules.check(),
        onReady: () => void rules.check(),
        onProblem: (error) => this.#onProblem(error),
        signal,
      });
      const registryClosed = this.#followRegistry(registryBucket);
      const enrolmentClosed = this.#followEnrolment(rulesBucket);
      this.#readNotices = () => this.#readNoticesIn(rulesBucket);
      await this.#resync(rules);
      await Promise.all([watch.closed, registryClosed, enrolmentClosed]);
    } finally {
      stopStatus();
      stopDenied();
    }
  }

  /** Never rejects. Reads root and pages first, because entries that arrive together can then be verified together. */
  async #followRegistry(bucket: Bucket): Promise<void> {
    const { registry } = this.#init;
    try {
      const root = await bucket.get(registryRootKey);
      if (root !== undefined) registry.onEntry({ operation: 'put', ...root });
      for (const page of await bucket.entries({ prefix: pageKeyPrefix }))
        registry.onEntry({ operation: 'put', ...page });
    } catch (error) {
      this.#onProblem(error);
    }
    const watch = bucket.watch({
      onEntry: (change) => registry.onEntry(change),
      onReady: () => undefined,
      onProblem: (error) => this.#onProblem(error),
      signal: this.#abort.signal,
    });
    await watch.closed;
  }

  /** What is deleted stays known: pods must not start outside the mesh because a store was wiped. */
  async #followEnrolment(bucket: Bucket): Promise<void> {
    const { enrolment, node, credentials } = this.#init;
    if (enrolment === null) return;
    const list = new EnrolmentList({
      enrolment,
      ask: () => this.#askForEnrolment(),
      publicKeysPem: () => credentials().signingPublicKeys,
      onProblem: (error) => this.#onProblem(error),
      signal: this.#abort.signal,
    });
    const watch = bucket.watch({
      key: enrolmentKeyFor(node),
      onEntry: (change) => {
        if (change.operation === 'put') list.onNotice(change.value);
      },
      onReady: () => undefined,
      onProblem: (error) => this.#onProblem(error),
      signal: this.#abort.signal,
    });
    await watch.closed;
  }

  /** Never rejects. Read now and then: a watch for them would cost more than it gives. */
  async #readNoticesIn(bucket: Bucket): Promise<void> {
    try {
      const statement = await bucket.get(newestStatementKey);
      if (statement !== undefined) this.#init.onStatement(statement.value);
      const entry = await bucket.get(trustHintKey);
      const hint = entry === undefined ? undefined : decodeTrustHint(entry.value);
      if (hint !== undefined) this.#init.onTrustHint(hint);
    } catch (error) {
      this.#onProblem(error);
    }
  }

  #connect(): Promise<Bus> {
    const { credentials, node } = this.#init;
    const { natsServers, natsServerName } = credentials();
    return connectBus({
      servers: natsServers,
      tls: {
        caPem: () => credentials().natsCaPem ?? credentials().rootsPem,
        ...(natsServerName === null ? {} : { servername: natsServerName }),
      },
      auth: { kind: 'jwt', jwt: () => this.#natsJwt(), seed: () => credentials().natsSeed },
      name: `culvert-agent ${node}`,
      inboxPrefix: inboxPrefixFor(node),
      consumerPrefix: () => this.#consumerPrefix,
      signal: this.#abort.signal,
      onProblem: (error) => this.#onProblem(error),
    });
  }

  /** What the connection may do is what this JWT says, also after another one has come. */
  #natsJwt(): string {
    const { natsJwt, consumerPrefix = null } = this.#init.credentials();
    this.#consumerPrefix = consumerPrefix;
    return natsJwt;
  }

  /** The controller creates the buckets. An agent that starts first waits for them. */
  async #bind(bus: Bus, name: string): Promise<Bucket> {
    for (;;) {
      try {
        return await bus.bucket(name);
      } catch (error) {
        this.#onProblem(error);
        await delay(bindRetryMs, undefined, { signal: this.#abort.signal });
      }
    }
  }

  #startRules(bucket: Bucket): RulesFollower {
    const { log, credentials } = this.#init;
    this.#rules = new RulesFollower({
      bucket,
      trustDomain: credentials().trustDomain,
      open: this.#init.openSnapshot,
      applied: this.#init.appliedRules,
      leastRevision: this.#init.leastRevision,
      log,
      onRules: this.#init.onRules,
      onAlarm: this.#init.onRulesAlarm,
    });
    return this.#rules;
  }

  /** Polls the pointer at intervals, in addition to the watch, and what else the controller says there. Ends with the link. */
  async #resync(rules: RulesFollower): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      await rules.check();
      await this.readNotices();
      await delay(this.#init.resyncIntervalMs, undefined, { signal }).catch(() => undefined);
    }
  }

  #onStatus(status: 'connected' | 'disconnected'): void {
    if (this.#abort.signal.aborted) return;
    if (status === 'connected') {
      this.#lastProblem = '';
      this.#init.log.info({ server: this.server }, 'connected to NATS again');
      void this.#rules?.check();
      void this.#readNotices();
      this.#init.onConnected();
    } else {
      this.#init.log.warn({ server: this.server }, 'connection to NATS lost: the last good state stays in force');
    }
  }

  /**
   * During an outage the same error repeats every second, so it is logged once, and again only if the error changes.
   */
  #onProblem(error: unknown): void {
    const problem = describeError(error);
    const level = problem === this.#lastProblem ? 'debug' : 'warn';
    this.#lastProblem = problem;
    this.#init.log[level]({ problem }, 'NATS operation failed; retrying');
    // The operator's own servers have a CA of their own, which the controller does not renew.
    const isOurs = this.#init.credentials().natsCaPem === null;
    if (isOurs && error instanceof CulvertError && error.code === 'BUS_UNTRUSTED') this.#init.onUntrusted();
  }
}

export type ControlLinkInit = {
  readonly node: NodeName;
  /** Read for every connection and check, so that renewed credentials take effect at once. */
  readonly credentials: () => NodeCredentials;
  readonly registry: RegistryFollower;
  readonly appliedRules: AppliedRules | null;
  /** The controller has signed that this revision exists. */
  readonly leastRevision: () => number;
  /** Checks signature and shape; throws if either is wrong. */
  readonly openSnapshot: (sealed: Uint8Array) => Snapshot;
  readonly resyncIntervalMs: number;
  readonly log: Log;
  readonly onRules: (rules: AppliedRules) => void;
  readonly onRulesAlarm: (kind: RulesAlarm) => void;
  readonly onAnswerRefused: (kind: AnswerAlarm) => void;
  /** What the controller says is the newest; nothing of it is checked. */
  readonly onStatement: (sealed: Uint8Array) => void;
  /** Null: nothing asks which pods wait for this agent. */
  readonly enrolment: Pick<EnrolmentFollower, 'take' | 'current'> | null;
  /** The controller's roots, as it says without a signature. */
  readonly onTrustHint: (hint: TrustHint) => void;
  /** TLS has refused the certificate of the mesh's own NATS. */
  readonly onUntrusted: () => void;
  /** Connected for the first time or again. */
  readonly onConnected: () => void;
};
