import type { BusVerb } from '../../shared/bus/subjects.js';
import { maxSignBatch } from '../../shared/wire/requests.js';
import type { NodeName } from '../../shared/routing/names.js';
import { RateLimiter, type Rate } from '../access/rate-limiter.js';

type Rates = Readonly<Record<Exclude<BusVerb, 'flows'> | 'certificates', Rate>>;

/** How long certificates last. */
export type Lifetimes = { readonly workloadTtlMs: number; readonly nodeTtlMs: number };

const maxWorkloads = 4096;
/** An agent renews at half of the life, at a third of it where its `renewJitter` is large; and what failed again. */
const renewalsPerLife = 4;
/** An agent has one request under way, with all that is due within 200 ms, 64 at most. */
const maxMessagesPerSecond = 5;

/**
 * What one node may ask for. An agent stays far below it: it signs 64 certificates in a message and each again at half of its
 * life, sends a heartbeat every few seconds, and reports connections every second at most, in some messages when it has many.
 * Certificates cost more than anything else: there are enough for all of a node with 4096 workloads, twice at once.
 */
function ratesFor({ workloadTtlMs, nodeTtlMs }: Lifetimes): Rates {
  const certificates = (maxWorkloads * renewalsPerLife * 1000) / workloadTtlMs;
  const signs = Math.min(certificates, maxMessagesPerSecond + certificates / maxSignBatch);
  return {
    sign: { burst: 300, perSecond: Math.max(2, signs) },
    renew: { burst: 20, perSecond: Math.max(0.2, (renewalsPerLife * 1000) / nodeTtlMs) },
    status: { burst: 100, perSecond: 5 },
    recent: { burst: 200, perSecond: 5 },
    enrolment: { burst: 100, perSecond: 10 },
    certificates: { burst: 10_000, perSecond: Math.max(20, certificates) },
  };
}
/** Requests of one node that run at the same time. All nodes together may have a few hundred. */
const maxRunning = 8;

/** Keeps one node from using up what the controller does for all. */
export class AgentRates {
  readonly #nowMs: () => number;
  readonly #messages = new Map<string, RateLimiter>();
  readonly #certificates: RateLimiter;
  readonly #running = new Map<string, number>();

  constructor({ nowMs, lifetimes }: { readonly nowMs: () => number; readonly lifetimes: Lifetimes }) {
    this.#nowMs = nowMs;
    const { certificates, ...ofVerbs } = ratesFor(lifetimes);
    this.#certificates = new RateLimiter(certificates);
    for (const [verb, rate] of Object.entries(ofVerbs)) this.#messages.set(verb, new RateLimiter(rate));
  }

  /** Whether the node may send this message. False: it is to be dropped, before anything in it is read. */
  take(verb: BusVerb, node: NodeName): boolean {
    return this.#messages.get(verb)?.take(node, this.#nowMs()) !== false;
  }

  /** Whether the node may have one more request under way. Then {@link end} must follow. */
  begin(verb: BusVerb, node: NodeName): boolean {
    const key = `${verb} ${node}`;
    const running = this.#running.get(key) ?? 0;
    if (running >= maxRunning) return false;
    this.#running.set(key, running + 1);
    return true;
  }

  end(verb: BusVerb, node: NodeName): void {
    const key = `${verb} ${node}`;
    const running = (this.#running.get(key) ?? 1) - 1;
    if (running === 0) this.#running.delete(key);
    else this.#running.set(key, running);
  }

  /** Whether the node may have that many certificates now. */
  maySign(node: NodeName, count: number): boolean {
    return this.#certificates.take(node, this.#nowMs(), count);
  }
}
