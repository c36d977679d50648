import type { OutlierPolicy } from '../../../shared/policy/traffic-documents.js';
import type { Endpoint } from '../../../shared/routing/destination.js';
import { workloadName } from '../../../shared/routing/names.js';
import type { Reason } from '../../../shared/reasons.js';
import type { CountedDestination } from '../report/counted-destination.js';
import { endpointKey } from './endpoint-loads.js';
import { WatchedUse, type HealthUse, type Verdict } from './health-use.js';
import type { EjectedEndpoint, Ejection } from '../report/ejections.js';

/** Whether a rule in force ejects endpoints of a destination. */
type EjectionRules = () => (destination: CountedDestination) => boolean;

/** Which endpoints of a list a new connection may go to. */
export type UsableEndpoints = {
  /** None. */
  readonly isNone: boolean;
  /** So few are healthy that all of them are used. */
  readonly isPanic: boolean;
  /** Null: all are. */
  readonly isUsable: ((endpoint: Endpoint) => boolean) | null;
};

/** Where nothing is ejected. */
export const allUsable: UsableEndpoints = { isNone: false, isPanic: false, isUsable: null };

/** The longest addition by chance, as a share: endpoints that failed together do not come back together. */
const jitter = 0.1;
/** The longest penalty that grows; a longer one of the policy stays as it is. */
const longestPenaltyMs = 300_000;
/** An ejected endpoint that no connection asked for is forgotten this long after its time is over. */
const forgottenAfterMs = 600_000;
/** Most ejections, and most ejected endpoints, in one report. */
const maxTold = 256;

type Health = {
  readonly endpoint: Endpoint;
  /** Another one is made when it is asked for again. */
  isForgotten: boolean;
  /** Its endpoint is gone, and what its open connections tell does not matter. */
  isDropped: boolean;
  /** In a row. */
  failures: number;
  /** How often it was ejected, less what healthy time has taken back: the penalty grows with it. */
  ejections: number;
  /** Null: it is whole. */
  untilMs: number | null;
  /** Connections that were begun and have not ended, and when that changed last. */
  open: number;
  usedAtMs: number;
  /** Since when it is whole, for what its penalties lose with time. */
  wholeSinceMs: number;
  /** The one connection that may try it after its penalty. */
  trial: WatchedUse | null;
  /** The open connection that reached it last, while it is whole and until it has worked. */
  latest: WatchedUse | null;
  reason: Reason;
};

/** Of the endpoints of one destination, under one rule. */
type Group = {
  readonly of: CountedDestination;
  readonly names: Pick<EjectedEndpoint, 'destination' | 'rule'>;
  readonly healths: Map<string, Health>;
  /** The same, by the object that a list has: the text of a key takes longer than the rest of a choice. */
  readonly byEndpoint: WeakMap<Endpoint, Health>;
  readonly ejected: Set<Health>;
  /** How many of them have an address: most endpoints are told from them by that. */
  readonly ejectedIps: Map<string, number>;
  readonly onTrial: Set<Health>;
  /** The endpoints that the last connection had to choose from. */
  latest: readonly Endpoint[];
  /** By the list of all of them. */
  readonly seen: WeakMap<readonly Endpoint[], Seen>;
  /** Counts what changes how many endpoints are left. */
  changes: number;
};

/**
 * How many of a list of endpoints are left, and how many are ejected or on trial, until something changes or, of the clock,
 * `untilMs`.
 */
type Seen = {
  readonly left: number;
  readonly ejected: number;
  readonly changes: number;
  readonly untilMs: number;
};

/**
 * Which endpoints of a destination failed so often in a row that they are left out for a while. An endpoint is `whole`, until
 * as many connections in a row failed as its policy says; then `ejected`, for a time that grows with each ejection; then one
 * connection may try it: if that works the endpoint is whole again, else it is ejected for longer. Endpoints of one destination
 * under one rule have a state of their own, and so has a new workload at the address of one that left. Clock and chance are
 * arguments. A choice costs a few look-ups, however many endpoints there are: all of them are counted only where it matters how
 * many are left.
 */
export class EndpointHealth {
  readonly #nowMs: () => number;
  readonly #random: () => number;
  readonly #isThere: (endpoint: Endpoint) => boolean;
  readonly #rulesNow: EjectionRules;
  readonly #groups = new Map<string, Group>();
  #news: Ejection[] = [];

  /**
   * `nowMs`: a clock that is never set back. `random`: from 0 to just below 1. `isThere`: whether the workload of an endpoint
   * still has its address. `rulesNow`: asked once for all destinations.
   */
  constructor(init: {
    readonly nowMs: () => number;
    readonly random: () => number;
    readonly isThere: (endpoint: Endpoint) => boolean;
    readonly rulesNow: EjectionRules;
  }) {
    this.#nowMs = init.nowMs;
    this.#isThere = init.isThere;
    this.#rulesNow = init.rulesNow;
    this.#random = init.random;
  }

  /** Number of endpoints of which something is known. */
  get size(): number {
    return [...this.#groups.values()].reduce((sum, { healths }) => sum + healths.size, 0);
  }

  /** The endpoints that a new connection may go to. */
  usable(
    { key }: CountedDestination,
    endpoints: readonly Endpoint[],
    { minHealthPercent }: OutlierPolicy,
  ): UsableEndpoints {
    const group = this.#groups.get(key);
    if (group === undefined || group.ejected.size === 0) return allUsable;
    const fewest = Math.max(1, Math.ceil((minHealthPercent * endpoints.length) / 100));
    // Those that left are among the ejected for a moment.
    if (endpoints.length - group.ejected.size < fewest) {
      const { left } = this.#look(group, endpoints);
      if (left * 100 < minHealthPercent * endpoints.length) return { isNone: false, isPanic: true, isUsable: null };
      if (left === 0) return { isNone: endpoints.length > 0, isPanic: false, isUsable: null };
    }
    const isUsable = (endpoint: Endpoint): boolean => {
      const health = ejectedAt(group, endpoint);
      return health === undefined || this.#mayBegin(group, health, this.#nowMs());
    };
    return { isNone: false, isPanic: false, isUsable };
  }

  /**
   * A connection is opened to the endpoint. Null: it is ejected, or another connection tries it, since it was found usable.
   * `among`: the endpoints that it was chosen from, ejected ones included. `hasAnswered`: whether a byte came from it. The caller
   * owns what is returned.
   */
  begin(
    destination: CountedDestination,
    endpoint: Endpoint,
    how: {
      readonly policy: OutlierPolicy;
      readonly among: readonly Endpoint[];
      readonly isPanic: boolean;
      readonly hasAnswered: () => boolean;
    },
  ): HealthUse | null {
    const group = this.#groupOf(destination);
    const health = this.#healthOf(group, endpoint);
    group.latest = how.among;
    if (!how.isPanic && !this.#mayBegin(group, health, this.#nowMs())) return null;
    // The list of `among` is long, and a connection may live for days.
    const { policy, hasAnswered } = how;
    const use = new WatchedUse({
      nowMs: this.#nowMs,
      hasAnswered,
      onConnected: () => this.#connected(health, use),
      onEnd: (verdict, reason) => this.#ended({ group, health, use, policy }, verdict, reason),
    });
    if (this.#isDue(health) && health.trial === null) this.#try(group, health, use);
    health.open += 1;
    health.usedAtMs = this.#nowMs();
    return use;
  }

  /** What happened since the last call, and which endpoints are ejected now. Forgets what does not matter any more. */
  take(): { readonly ejections: readonly Ejection[]; readonly ejected: readonly EjectedEndpoint[] } {
    const ejections = this.#news;
    this.#news = [];
    const ejected: EjectedEndpoint[] = [];
    const nowMs = this.#nowMs();
    const mayEject = this.#groups.size === 0 ? null : this.#rulesNow();
    for (const [destination, group] of this.#groups) {
      if (mayEject?.(group.of) === false) {
        this.#drop(destination, group);
        continue;
      }
      for (const [key, health] of group.healths) {
        this.#refresh(group, health);
        const { untilMs, trial } = health;
        if (untilMs === null) {
          const sinceMs = Math.max(health.wholeSinceMs, health.usedAtMs);
          if (health.open === 0 && nowMs - sinceMs > forgottenAfterMs) forget(group, key, health);
        } else if (!this.#isThere(health.endpoint)) {
          this.#makeWhole(group, health);
          health.isDropped = true;
          forget(group, key, health);
        } else if (trial === null && nowMs - untilMs > forgottenAfterMs) {
          this.#makeWhole(group, health);
        } else if (ejected.length < maxTold) {
          const state = trial !== null ? 'on trial' : untilMs <= nowMs ? 'to be tried' : 'ejected';
          const { reason, ejections: count } = health;
          ejected.push({
            ...group.names,
            ...namesOf(health.endpoint),
            state,
            reason,
            count,
            forMs: Math.max(0, untilMs - nowMs),
          });
        }
      }
      if (group.healths.size === 0) this.#groups.delete(destination);
    }
    return { ejections, ejected };
  }

  /** No rule ejects endpoints of this destination any more: they are whole, and what open connections tell does not matter. */
  #drop(destination: string, group: Group): void {
    for (const health of group.healths.values()) {
      this.#makeWhole(group, health);
      health.isDropped = true;
      health.isForgotten = true;
    }
    this.#groups.delete(destination);
  }

  /** Asks each endpoint only when something has changed. */
  #look(group: Group, endpoints: readonly Endpoint[]): Seen {
    for (const health of group.onTrial) this.#refresh(group, health);
    const nowMs = this.#nowMs();
    const seen = group.seen.get(endpoints);
    if (seen !== undefined && seen.changes === group.changes && nowMs < seen.untilMs) return seen;
    let [left, ejected, untilMs] = [0, 0, Number.POSITIVE_INFINITY];
    for (const endpoint of endpoints) {
      const health = ejectedAt(group, endpoint);
      if (health === undefined || health.untilMs === null) {
        left += 1;
        continue;
      }
      ejected += 1;
      if (health.untilMs > nowMs) untilMs = Math.min(untilMs, health.untilMs);
      else if (health.trial === null) left += 1;
    }
    const now = { left, ejected, changes: group.changes, untilMs };
    group.seen.set(endpoints, now);
    return now;
  }

  #mayBegin(group: Group, health: Health, nowMs: number): boolean {
    this.#refresh(group, health);
    return health.untilMs === null || (health.untilMs <= nowMs && health.trial === null);
  }

  #try(group: Group, health: Health, use: WatchedUse): void {
    health.trial = use;
    group.onTrial.add(health);
    group.changes += 1;
  }

  #endTrial(group: Group, health: Health): void {
    health.trial = null;
    group.onTrial.delete(health);
    group.changes += 1;
  }

  #isDue({ untilMs }: Health): boolean {
    return untilMs !== null && untilMs <= this.#nowMs();
  }

  /** A trial that has worked makes its endpoint whole, although it goes on. */
  #refresh(group: Group, health: Health): void {
    if (health.trial?.hasWorked() === true) this.#makeWhole(group, health);
  }

  /** An open connection that has worked ends the row of failures, once: those after that count. */
  #countLatest(health: Health): void {
    if (health.latest?.hasWorked() !== true) return;
    health.failures = 0;
    health.latest = null;
  }

  #connected(health: Health, use: WatchedUse): void {
    if (health.untilMs !== null || health.isDropped) return;
    this.#countLatest(health);
    health.latest = use;
  }

  /** Returns whether the endpoint would be ejected if more could be. */
  #ended({ group, health, use, policy }: Ended, verdict: Verdict, reason: Reason): boolean {
    if (health.isDropped) return false;
    health.open -= 1;
    health.usedAtMs = this.#nowMs();
    const isTrial = health.trial === use;
    if (isTrial) this.#endTrial(group, health);
    if (health.untilMs !== null) {
      if (!isTrial || verdict === 'unknown') return false;
      if (verdict === 'worked') this.#makeWhole(group, health);
      else this.#eject(group, health, policy, reason);
      return false;
    }
    if (health.latest === use) health.latest = null;
    if (verdict === 'worked') health.failures = 0;
    if (verdict !== 'failed') return false;
    this.#countLatest(health);
    health.failures += 1;
    if (health.failures < policy.failures) return false;
    if (this.#areEnoughEjected(group, policy)) return true;
    this.#eject(group, health, policy, reason);
    return false;
  }

  /** Of the endpoints that there are: those that left do not count. */
  #areEnoughEjected(group: Group, policy: OutlierPolicy): boolean {
    const most = mostEjected(group.latest.length, policy);
    return group.ejected.size >= most && this.#look(group, group.latest).ejected >= most;
  }

  #eject(group: Group, health: Health, policy: OutlierPolicy, reason: Reason): void {
    const nowMs = this.#nowMs();
    if (health.untilMs === null) {
      const healthyMs = nowMs - health.wholeSinceMs;
      health.ejections = Math.max(0, health.ejections - Math.floor(healthyMs / policy.decayMs));
      group.ejected.add(health);
      const { ip } = health.endpoint.address;
      group.ejectedIps.set(ip, (group.ejectedIps.get(ip) ?? 0) + 1);
    }
    health.ejections += 1;
    health.failures = 0;
    health.latest = null;
    health.reason = reason;
    const forMs = penaltyMs(health.ejections, policy) * (1 + jitter * this.#random());
    health.untilMs = nowMs + forMs;
    group.changes += 1;
    if (this.#news.length >= maxTold) return;
    this.#news.push({ ...group.names, ...namesOf(health.endpoint), reason, count: health.ejections, forMs });
  }

  #makeWhole(group: Group, health: Health): void {
    if (health.untilMs !== null) {
      group.ejected.delete(health);
      const { ip } = health.endpoint.address;
      const left = (group.ejectedIps.get(ip) ?? 1) - 1;
      if (left === 0) group.ejectedIps.delete(ip);
      else group.ejectedIps.set(ip, left);
    }
    health.untilMs = null;
    health.latest = null;
    this.#endTrial(group, health);
    health.failures = 0;
    health.wholeSinceMs = this.#nowMs();
  }

  #groupOf(counted: CountedDestination): Group {
    const { key, of, rule } = counted;
    const present = this.#groups.get(key);
    if (present !== undefined) return present;
    const group: Group = {
      of: counted,
      names: { destination: of, rule },
      healths: new Map(),
      byEndpoint: new WeakMap(),
      ejected: new Set(),
      ejectedIps: new Map(),
      onTrial: new Set(),
      latest: [],
      seen: new WeakMap(),
      changes: 0,
    };
    this.#groups.set(key, group);
    return group;
  }

  #healthOf(group: Group, endpoint: Endpoint): Health {
    const present = knownOf(group, endpoint);
    if (present !== undefined) return present;
    const health: Health = {
      endpoint,
      isForgotten: false,
      isDropped: false,
      failures: 0,
      ejections: 0,
      untilMs: null,
      open: 0,
      usedAtMs: this.#nowMs(),
      wholeSinceMs: this.#nowMs(),
      trial: null,
      latest: null,
      reason: 'OK',
    };
    group.healths.set(endpointKey(endpoint), health);
    group.byEndpoint.set(endpoint, health);
    return health;
  }
}

type Ended = {
  readonly group: Group;
  readonly health: Health;
  readonly use: WatchedUse;
  readonly policy: OutlierPolicy;
};

/** How many endpoints may be ejected at once: at least one, unless the policy says that none may. */
function mostEjected(among: number, { maxEjectionPercent }: OutlierPolicy): number {
  if (maxEjectionPercent === 0) return 0;
  return Math.max(1, Math.floor((among * maxEjectionPercent) / 100));
}

/** Before chance adds to it. */
function penaltyMs(ejections: number, { baseEjectionMs }: OutlierPolicy): number {
  return Math.max(baseEjectionMs, Math.min(baseEjectionMs * ejections, longestPenaltyMs));
}

function namesOf({ workload, address }: Endpoint): Pick<EjectedEndpoint, 'workload' | 'address'> {
  return { workload: workload === null ? null : workloadName(workload), address };
}

/** Undefined: it is whole. */
function ejectedAt(group: Group, endpoint: Endpoint): Health | undefined {
  return group.ejectedIps.has(endpoint.address.ip) ? knownOf(group, endpoint) : undefined;
}

/** Undefined: nothing is known of it. */
function knownOf({ byEndpoint, healths }: Group, endpoint: Endpoint): Health | undefined {
  const known = byEndpoint.get(endpoint);
  if (known !== undefined && !known.isForgotten) return known;
  const found = healths.get(endpointKey(endpoint));
  if (found !== undefined) byEndpoint.set(endpoint, found);
  return found;
}

function forget({ healths }: Group, key: string, health: Health): void {
  healths.delete(key);
  health.isForgotten = true;
}
