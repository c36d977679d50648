import type { IpAddress } from '../../../shared/address.js';
import { formatRuleRef, type RuleRef } from '../../../shared/policy/connection.js';
import { addressClass, flowKey, flowRulePattern, maxAuditedRules, verdictOf } from '../../../shared/wire/flows.js';
import type { FlowAgain } from '../../../shared/wire/recent-flows.js';
import type { Reason } from '../../../shared/reasons.js';
import type { FlowParty, ReportedFlow } from '../../../shared/wire/flows.js';
import type { ClosedConnection, ConnectionParty } from '../../dataplane/report/closed-connection.js';
import { ruledPort, type OpenConnections, type OpenParty } from '../../dataplane/report/open-connections.js';

/**
 * Maximum number of separate flows. Beyond it ports and addresses are dropped first, then everything but the verdict.
 */
const maxExactFlows = 10_000;
const maxCoarseFlows = 1000;
/**
 * A flow is published in each of its first windows, so that new traffic shows at once, and then in every 30th (5
 * minutes with windows of 10 s). Otherwise a busy pair of workloads would write the same record 8,640 times a day.
 */
const promptTellings = 6;
const slowWindows = 30;

/**
 * Endings that are not refusals. A connection that ended like this before the rules were asked is no evidence that its
 * parties may talk, and would be learned as such.
 */
const notRefused: ReadonlySet<Reason> = new Set(['CLIENT_RESET', 'DRAIN']);

/** Updated in place until it is published, because this runs for every connection. */
type Sum = { -readonly [Field in keyof ReportedFlow]: ReportedFlow[Field] };

type Entry = {
  /** By which reports name it. */
  readonly id: number;
  /** Whether the controller knows the number. */
  isNamed: boolean;
  /** What is to be published; null: nothing since the last time. */
  pending: Sum | null;
  /** Whether `pending` has grown since the controller got it. */
  hasNews: boolean;
  /** Connections in it that the controller has not confirmed. */
  unreported: number;
  tellings: number;
  /** Not published before this window. */
  dueWindow: number;
  lastWindow: number;
};

/** What the controller does not know yet. */
export type RecentTake = {
  /** Flows that the controller may not know, with their numbers in the same order. */
  readonly flows: readonly ReportedFlow[];
  readonly ids: readonly number[];
  /** Flows whose number it knows. */
  readonly again: readonly FlowAgain[];
  /** Connections in them that were in no report before. */
  readonly unreported: number;
  /** The controller knows the numbers from now on. */
  readonly named: () => void;
  /** After a report that failed: they are in the next one again. */
  readonly putBack: () => void;
};

export type TakenFlows = {
  readonly flows: readonly ReportedFlow[];
  /** Connections since the last call that the flows contain only in sums. */
  readonly notKept: number;
};

/**
 * Aggregates connections into flows, in bounded memory. Each connection counts once, when it ends or when it is first
 * reported as open. The owner takes what is due once per window.
 */
export class FlowAggregator {
  readonly #maxExact: number;
  readonly #maxCoarse: number;
  readonly #nameExternal: (ip: IpAddress, port: number) => string | null;
  readonly #exact = new Map<string, Entry>();
  readonly #coarse = new Map<string, Entry>();
  /** Needs no bound: direction, verdict and reason are closed sets. */
  readonly #other = new Map<string, Entry>();
  #window = 0;
  #notKept = 0;
  #takenUnreported = 0;
  #unconfirmed = 0;
  #unstored = 0;
  #nextId = 0;

  /** `nameExternal`: returns the ServiceEntry that an address outside the mesh belongs to, as `namespace/name`. */
  constructor(init: {
    readonly nameExternal: (ip: IpAddress, port: number) => string | null;
    readonly maxExact?: number;
    readonly maxCoarse?: number;
  }) {
    this.#nameExternal = init.nameExternal;
    this.#maxExact = init.maxExact ?? maxExactFlows;
    this.#maxCoarse = init.maxCoarse ?? maxCoarseFlows;
  }

  /** Number of flows held, including published ones. */
  get size(): number {
    return this.#exact.size + this.#coarse.size + this.#other.size;
  }

  /** Connections that were added and not confirmed. */
  get unconfirmed(): number {
    return this.#unconfirmed;
  }

  /** Connections that were added and are in no stored batch. */
  get unstored(): number {
    return this.#unstored;
  }

  /** A batch with them is stored, or will never be. */
  settle(connections: number): void {
    this.#unstored -= connections;
  }

  /** The controller knows nothing of what is in no stored batch: the next report has all of it, whole. */
  forgetReports(): void {
    for (const table of [this.#exact, this.#coarse, this.#other]) {
      for (const entry of table.values()) {
        entry.isNamed = false;
        entry.hasNews = entry.pending !== null;
      }
    }
  }

  /** The controller has them, in a report or in a stored batch. */
  confirm(connections: number): void {
    this.#unconfirmed -= connections;
  }

  /** A connection that was reported as open before adds only what it did since, and counts once more if it was cut. */
  addClosed(connection: ClosedConnection): void {
    const { direction, reason, revision, startedAtMs, reportedOpen } = connection;
    if (connection.rule === null && notRefused.has(reason)) return;
    // A probe that came to no workload of this host is no flow: the controller takes a host's word for its own workloads only.
    if (connection[direction === 'outbound' ? 'source' : 'destination'].workload === null) return;
    const verdict = verdictOf(reason);
    const port = ruledPort(connection);
    this.#add({
      direction,
      ...(connection.path === 'probe' ? { probe: true as const } : {}),
      source: this.#source(openParty(connection.source)),
      destination: this.#destination(openParty(connection.destination), port),
      port,
      verdict,
      reason,
      rule: ruleText(connection.rule),
      audited: ruleTexts(connection.audited),
      revision,
      connections: reportedOpen === undefined || verdict === 'deny' ? 1 : 0,
      bytesSent: connection.bytesSent - (reportedOpen?.sent ?? 0),
      bytesReceived: connection.bytesReceived - (reportedOpen?.received ?? 0),
      firstSeenMs: startedAtMs,
      lastSeenMs: startedAtMs + Math.max(0, Math.round(connection.durationMs)),
    });
  }

  addOpen(open: OpenConnections): void {
    this.#add({
      ...open,
      source: this.#source(open.source),
      destination: this.#destination(open.destination, open.port),
      verdict: 'allow',
      reason: 'OK',
      rule: ruleText(open.rule),
      audited: ruleTexts(open.audited),
    });
  }

  /** Ends a window. `isLast`: everything is published now, due or not. */
  take({ isLast }: { readonly isLast: boolean }): TakenFlows {
    this.#window += 1;
    const flows: ReportedFlow[] = [];
    for (const table of [this.#exact, this.#coarse, this.#other]) {
      const isFull = table === this.#exact && table.size >= this.#maxExact;
      for (const [key, entry] of table) {
        if (entry.pending !== null && (isLast || isFull || this.#window >= entry.dueWindow)) {
          flows.push(entry.pending);
          entry.pending = null;
          entry.hasNews = false;
          this.#takenUnreported += entry.unreported;
          entry.unreported = 0;
          entry.tellings += 1;
          entry.dueWindow = this.#window + (entry.tellings < promptTellings ? 1 : slowWindows);
        }
        const isIdle = entry.pending === null && this.#window - entry.lastWindow > slowWindows;
        // A full table makes room for new flows by dropping published ones.
        if (isIdle || (isFull && entry.pending === null)) table.delete(key);
      }
    }
    const notKept = this.#notKept;
    this.#notKept = 0;
    return { flows, notKept };
  }

  /** The connections in what `take` returned since the last call that are in no report either. */
  takeUnreported(): number {
    const unreported = this.#takenUnreported;
    this.#takenUnreported = 0;
    return unreported;
  }

  /** What was added since the last call, each flow with all that is not in a stored batch yet. */
  takeRecent(): RecentTake {
    const flows: ReportedFlow[] = [];
    const ids: number[] = [];
    const again: FlowAgain[] = [];
    const taken: { readonly entry: Entry; readonly unreported: number }[] = [];
    let sum = 0;
    for (const table of [this.#exact, this.#coarse, this.#other]) {
      for (const entry of table.values()) {
        const { pending, unreported } = entry;
        if (!entry.hasNews || pending === null) continue;
        if (entry.isNamed) again.push(numbersOf(entry.id, pending));
        else {
          // A copy: it grows while the report waits for its turn.
          flows.push({ ...pending });
          ids.push(entry.id);
        }
        taken.push({ entry, unreported });
        sum += unreported;
        entry.hasNews = false;
        entry.unreported = 0;
      }
    }
    const putBack = (): void => {
      for (const { entry, unreported } of taken) {
        // Taken meanwhile: its batch has them.
        if (entry.pending === null) this.#takenUnreported += unreported;
        else {
          entry.hasNews = true;
          entry.unreported += unreported;
        }
      }
    };
    const named = (): void => taken.forEach(({ entry }) => void (entry.isNamed = true));
    return { flows, ids, again, unreported: sum, named, putBack };
  }

  #add(flow: Sum): void {
    this.#unconfirmed += flow.connections;
    this.#unstored += flow.connections;
    if (this.#addTo(this.#exact, flow, this.#maxExact)) return;
    this.#notKept += flow.connections;
    const source = { ...flow.source, cidr: null };
    const destination = { ...flow.destination, cidr: null };
    const coarse = { ...flow, source, destination, port: 0 };
    if (this.#addTo(this.#coarse, coarse, this.#maxCoarse)) return;
    const other = { ...coarse, source: unknownParty, destination: unknownParty, rule: '', audited: [] };
    this.#addTo(this.#other, other, Number.POSITIVE_INFINITY);
  }

  #addTo(table: Map<string, Entry>, flow: Sum, max: number): boolean {
    const key = flowKey(flow);
    const entry = table.get(key);
    if (entry === undefined) {
      if (table.size >= max) return false;
      const { connections } = flow;
      table.set(key, {
        id: this.#nextId++,
        isNamed: false,
        pending: flow,
        hasNews: true,
        unreported: connections,
        tellings: 0,
        dueWindow: 0,
        lastWindow: this.#window,
      });
      return true;
    }
    if (entry.pending === null) entry.pending = flow;
    else addFlow(entry.pending, flow);
    entry.hasNews = true;
    entry.unreported += flow.connections;
    entry.lastWindow = this.#window;
    return true;
  }

  #source({ workload, identity, ip }: OpenParty): FlowParty {
    return { workload, identity, cidr: workload !== null || ip === null ? null : addressClass(ip) };
  }

  /** A ServiceEntry names what is dialled, on its ports. Clients from its addresses are ordinary addresses. */
  #destination(end: OpenParty, port: number): FlowParty {
    const external = end.workload !== null || end.ip === null ? null : this.#nameExternal(end.ip, port);
    return external === null ? this.#source(end) : { workload: null, identity: end.identity, cidr: external };
  }
}

const unknownParty: FlowParty = { workload: null, identity: null, cidr: null };

function openParty({ workload, identity, address }: ConnectionParty): OpenParty {
  return { workload, identity, ip: address?.ip ?? null };
}

/** The rule of a refusal by the other agent is what that agent says: a batch with a text like no rule is refused whole. */
function ruleText(rule: RuleRef | null): string {
  const text = rule === null ? '' : formatRuleRef(rule);
  return flowRulePattern.test(text) ? text : '';
}

function ruleTexts(rules: readonly RuleRef[]): readonly string[] {
  return rules.slice(0, maxAuditedRules).map(formatRuleRef);
}

function numbersOf(id: number, flow: ReportedFlow): FlowAgain {
  const { revision, connections, bytesSent, bytesReceived, firstSeenMs, lastSeenMs } = flow;
  return [id, revision, connections, bytesSent, bytesReceived, firstSeenMs, lastSeenMs];
}

function addFlow(sum: Sum, flow: ReportedFlow): void {
  sum.revision = Math.max(sum.revision, flow.revision);
  sum.connections += flow.connections;
  sum.bytesSent += flow.bytesSent;
  sum.bytesReceived += flow.bytesReceived;
  sum.firstSeenMs = Math.min(sum.firstSeenMs, flow.firstSeenMs);
  sum.lastSeenMs = Math.max(sum.lastSeenMs, flow.lastSeenMs);
}
