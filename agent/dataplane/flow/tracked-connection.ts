import type { HostPort } from '../../../shared/address.js';
import { evaluate } from '../../../shared/policy/evaluate.js';
import type { Clock, Connection, Decision } from '../../../shared/policy/connection.js';
import type { Reason } from '../../../shared/reasons.js';
import type { ConnectionLimits } from '../../../shared/policy/traffic-documents.js';
import type { PlannedLimit } from '../../../shared/routing/rate-limits.js';
import type { CountedConnection } from '../destination-usage.js';
import type { DestinationPlace } from '../limit/destination-limits.js';
import type { RateLimiter } from '../limit/rate-limiter.js';
import { slowest } from '../limit/own-rate.js';
import { Throttle } from '../limit/throttle.js';
import type { HealthUse, Verdict } from '../balance/health-use.js';
import { verdictOf } from '../balance/verdict.js';
import type { EndpointUse } from '../balance/endpoint-loads.js';
import { Authorized } from '../connection/authorized.js';
import type { ConnectionRecord } from '../connection/connection-record.js';
import { refused, refusedByUs, type Ending, type Refused } from '../connection/ending.js';
import { ConnectionCut, TerminationSignal } from '../connection/termination-signal.js';
import type { KnownSocket } from '../../native/socket-table.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { RelayOptions, RelayPeer } from '../relay/relay.js';
import type { ShadowFeed } from '../relay/shadow-feed.js';
import type { LimitHit } from '../report/closed-connection.js';
import type { WorkerState } from '../state/worker-state.js';
import type { TunnelPulse } from '../tunnel/tunnel-keepalive.js';
import { GracePeriod, type GraceCounts } from './grace-period.js';

/** Both parties according to the current state, or why the state does not allow a decision. */
export type Facts =
  | { readonly connection: Connection }
  /** `whileOpen`: the reason for cutting a connection that is already open. */
  | { readonly refusal: Refused; readonly whileOpen: Reason };

/** Builds the facts from the state: called before the dial, and again after every change of the state. */
export type FactsSource = (state: WorkerState) => Facts;

/** What the watch knows of one connection, and does for it (`connection-care.ts`). */
export interface Care {
  /** The application's keepalive is followed, and the other end does not answer. */
  readonly isFarSideGone: boolean;
  /** It must be updated every second, or a short keepalive is late. */
  readonly isHurried: boolean;
  /** To be called every round. Costs nothing while the other end answers and no application probes. */
  update(): void;
  /** The timeouts of some namespace have changed. */
  probeAgain(): void;
  /** Asks the kernel. */
  look(): void;
}

const noGrace: Pick<GracePeriod, 'kind' | 'rule'> = { kind: null, rule: null };

/**
 * A connection from accept to record. Holds what is needed to decide about it again, and the one signal that ends it in
 * whatever step it is.
 */
export class TrackedConnection {
  readonly record: ConnectionRecord;
  /** The workloads of this node at its ends: one, or two on the local path; none while it is not known whose it is. */
  readonly workloads: HostedWorkload[];
  readonly signal = new TerminationSignal();
  readonly #clock: Clock;
  readonly #inGrace: GraceCounts;
  /** Both sides, once bytes move. */
  ends: { readonly source: RelayPeer; readonly destination: RelayPeer } | null = null;
  /** The own socket of the application of this host that opened it; null while it is not known. */
  application: KnownSocket | null = null;
  /** Null until the watch has looked at it once. */
  care: Care | null = null;
  /** Of the tunnel that carries it; null on other paths. */
  pulse: TunnelPulse | null = null;
  /** What a DestinationRule says of it, once it is routed; undefined: nothing. */
  limits: ConnectionLimits | undefined;
  /** What bounds the bytes of each side; null: nothing does. */
  throttles: RelayOptions['throttles'] = null;
  /** Begins the copy of what the client sends, when the connection is connected; null: there is none. */
  beginShadow: (() => ShadowFeed) | null = null;
  #place: DestinationPlace | null = null;
  /** In RateLimits; null: it is not counted for any. */
  #limitPlaces: readonly CountedConnection[] | null = null;
  #use: EndpointUse | null = null;
  #health: HealthUse | null = null;
  #seenBytes = -1;
  #silentRounds = 0;
  #facts: FactsSource | null = null;
  /** Made when it is first needed: most connections never need one. */
  #grace: GracePeriod | null = null;

  /** `inGrace`: the counts of all connections, which its grace period keeps right. */
  constructor(init: {
    readonly record: ConnectionRecord;
    readonly workload: HostedWorkload | null;
    readonly clock: Clock;
    readonly inGrace: GraceCounts;
  }) {
    this.record = init.record;
    this.workloads = init.workload === null ? [] : [init.workload];
    this.#clock = init.clock;
    this.#inGrace = init.inGrace;
  }

  /** The grace period that the connection is in although the rules deny it, and the rule that denies it. */
  get grace(): Pick<GracePeriod, 'kind' | 'rule'> {
    return this.#grace ?? noGrace;
  }

  /** Called once a round: whether to look at it now. The first time, and one in `every` while no byte moves. */
  isDueForLook(every: number): boolean {
    const bytes = this.record.bytesSent + this.record.bytesReceived;
    const isFirst = this.#seenBytes < 0;
    const isSilent = bytes === this.#seenBytes;
    this.#seenBytes = bytes;
    this.#silentRounds = isSilent ? this.#silentRounds + 1 : 0;
    return isFirst || this.#silentRounds % every === 1;
  }

  /** It is at an endpoint whose connections are counted, until {@link leaveEndpoint}. */
  goTo(use: EndpointUse | null, health: HealthUse | null): void {
    this.#use = use;
    this.#health = health;
  }

  /** It counts for a limit of its destination, until {@link leave}. */
  take(place: DestinationPlace | null): void {
    this.#place = place;
  }

  /**
   * It counts for these limits from now on, once however many endpoints are tried. Called when the rules let it go to one, so
   * that what they refuse takes nothing from others. Null: they let it pass.
   */
  countFor(limiter: RateLimiter, limits: readonly PlannedLimit[]): Refused | null {
    if (this.#limitPlaces !== null) return null;
    const entered = limiter.enter(limits);
    for (const hit of entered.hits) this.record.limitedBy(hit);
    if ('detail' in entered) return refusedByUs('RATE_LIMITED', entered.detail);
    this.#limitPlaces = entered.places;
    if (entered.bytes !== null) {
      const onHit = (hit: LimitHit): void => this.record.limitedBy(hit);
      const { source, destination } = entered.bytes;
      this.slowDown({
        source: new Throttle({ budgets: source, onHit }),
        destination: new Throttle({ budgets: destination, onHit }),
      });
    }
    return null;
  }

  /** Its bytes are bounded by these too, each side by its own, once they move. */
  slowDown({ source, destination }: NonNullable<RelayOptions['throttles']>): void {
    const { throttles } = this;
    this.throttles = {
      source: slowest(throttles?.source ?? null, source),
      destination: slowest(throttles?.destination ?? null, destination),
    };
  }

  /** The far side is connected. */
  reached(): void {
    this.#place?.connected();
    this.#health?.connected();
  }

  /** Its endpoint is judged by how it ended, once. */
  judge(ending: Pick<Ending, 'reason' | 'isOwn'>): void {
    // One that takes connections and resets them has few open, and does not get more for that.
    const verdict = this.#verdict(ending);
    if (verdict === 'avoided') this.#use?.end(true);
  }

  /** `avoided`: others are to be taken before it, where nothing else sees to that. */
  #verdict(ending: Pick<Ending, 'reason' | 'isOwn'>): Verdict | 'avoided' {
    const verdict = verdictOf(ending, { hasAnswered: this.record.firstByteAtMs !== null });
    const health = this.#health;
    this.#health = null;
    const isAtLimit = health?.end(verdict, ending.reason) ?? true;
    return verdict === 'failed' && isAtLimit ? 'avoided' : verdict;
  }

  /** The connection is over. */
  leave(): void {
    this.#use?.end(false);
    this.#use = null;
    this.#place?.leave();
    this.#place = null;
    for (const place of this.#limitPlaces ?? []) place.leave();
    this.#limitPlaces = null;
  }

  /** Its endpoint could not be reached. */
  leaveEndpoint(refusal: Refused): void {
    const verdict = this.#verdict(refusal);
    // Where endpoints are ejected, that one fails says only as much.
    this.#use?.end(refusal.isOwn !== true && verdict !== 'failed');
    this.#use = null;
  }

  /** The connection is allowed again, or has ended. */
  endGrace(): void {
    this.#grace?.lift();
  }

  /**
   * Decides by the rules whether the connection may go to `address`, now and again after every change of the state. The
   * result is what a dial requires, so nothing is sent to the destination before. `signal`: what gives the dial up, of an attempt
   * that may end before the connection.
   */
  authorize(
    state: WorkerState,
    address: HostPort,
    source: FactsSource,
    signal: TerminationSignal = this.signal,
  ): Authorized | Refused {
    this.#facts = source;
    this.endGrace();
    this.record.undecided();
    const facts = source(state);
    if (!('connection' in facts)) {
      this.#noteRefusal(facts.refusal, state);
      return facts.refusal;
    }
    if (state.snapshot === null) return refused('NO_RULES_YET', 'no rules yet');
    const decision = evaluate(state.snapshot, facts.connection, this.#clock);
    this.record.decided(decision, state.snapshot.revision);
    if (decision.verdict === 'allow') return new Authorized({ address, signal });
    return refused(decision.reason, '', decision.rule);
  }

  /**
   * Lets a probe of the host go to `address`: the settings of the agent allow it, and no rule is asked, now or later.
   */
  admitProbe(address: HostPort): Authorized {
    this.record.undecided();
    return new Authorized({ address, signal: this.signal });
  }

  /**
   * Decides again about an admitted connection. When the rules now deny it, `onChange` of the denying rule decides what
   * happens. When the facts no longer hold, rules do not matter, and the connection is cut at once.
   */
  recheck(state: WorkerState): void {
    if (this.#facts === null || this.signal.cut !== null || state.snapshot === null) return;
    const facts = this.#facts(state);
    if (!('connection' in facts)) {
      const { detail, rule } = facts.refusal;
      this.#noteRefusal(facts.refusal, state);
      this.cut(new ConnectionCut({ reason: facts.whileOpen, detail, rule }));
      return;
    }
    const decision = evaluate(state.snapshot, facts.connection, this.#clock);
    const { revision } = state.snapshot;
    if (decision.verdict === 'allow') {
      this.endGrace();
      this.record.decided(decision, revision);
      return;
    }
    this.#grace ??= new GracePeriod({
      counts: this.#inGrace,
      onExpired: (last, at) => this.#terminate(last, at),
    });
    if (!this.#grace.grant(decision, revision)) this.#terminate(decision, revision);
  }

  cut(cut: ConnectionCut): void {
    this.signal.raise(cut);
  }

  /** Only a refusal by a rule depends on the revision; one because of an identity does not. */
  #noteRefusal({ rule }: Ending, { snapshot }: WorkerState): void {
    if (rule !== null && snapshot !== null) this.record.refusedBy(rule, snapshot.revision);
  }

  #terminate(decision: Decision, revision: number): void {
    if (this.signal.cut !== null) return;
    this.record.decided(decision, revision);
    this.cut(new ConnectionCut({ reason: 'POLICY_TERMINATED', rule: decision.rule, detail: decision.reason }));
  }
}
