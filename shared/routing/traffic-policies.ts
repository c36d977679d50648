import type { Snapshot } from '../policy/snapshot.js';
import type {
  CompiledDestinationRule,
  CompiledVirtualService,
  DestinationSubset,
  TrafficPolicy,
} from '../policy/traffic-documents.js';
import { DocumentsByHost } from './documents-by-host.js';
import { RateLimits, type LimitedClient, type LimitedDestination, type PlannedLimit } from './rate-limits.js';
import { firstRoute, type RouteFacts, type RouteFound } from './traffic-routes.js';

type Named = { readonly namespace: string; readonly name: string };
type Documents = Pick<Snapshot, 'destinationRules' | 'virtualServices' | 'rateLimits' | 'mesh'>;

/** What the documents of a snapshot say of connections to services; see {@link DocumentsByHost} for which document counts. */
export class TrafficPolicies {
  readonly #rules: DocumentsByHost<CompiledDestinationRule>;
  readonly #routes: DocumentsByHost<CompiledVirtualService>;
  readonly #limits: RateLimits;

  /** Owns nothing of `snapshot`, whose lists it keeps. */
  constructor({ destinationRules = [], virtualServices = [], rateLimits = [], mesh: { rootNamespace } }: Documents) {
    this.#rules = new DocumentsByHost({ documents: destinationRules, rootNamespace });
    this.#routes = new DocumentsByHost({ documents: virtualServices, rootNamespace });
    this.#limits = new RateLimits({ documents: rateLimits, rootNamespace });
  }

  /** The policies of a snapshot: `before` itself where nothing of it has changed, with all that it knows. */
  static of(snapshot: Documents, before: TrafficPolicies | null): TrafficPolicies {
    return before?.isFor(snapshot) === true ? before : new TrafficPolicies(snapshot);
  }

  /** Whether it was made of the same documents. */
  isFor({ destinationRules = [], virtualServices = [], rateLimits = [], mesh: { rootNamespace } }: Documents): boolean {
    return (
      this.#rules.isOf(destinationRules, rootNamespace) &&
      this.#routes.isOf(virtualServices, rootNamespace) &&
      this.#limits.isOf(rateLimits, rootNamespace)
    );
  }

  /** The DestinationRule for connections from a namespace to a service; null: there is none. */
  ruleFor(service: Named, clientNamespace: string): CompiledDestinationRule | null {
    return this.#rules.find(service, clientNamespace);
  }

  /** The route that a connection takes, and what it may go to; null: all endpoints of the service are meant. */
  routeFor(service: Named, facts: RouteFacts): RouteFound | null {
    const document = this.#routes.find(service, facts.client.namespace);
    return document === null ? null : firstRoute(document, facts);
  }

  /**
   * The RateLimits for connections of a client to these destinations: what was dialled, and where a route leads it. By namespace
   * and name; null: there is none.
   */
  limitsFor(client: LimitedClient, destinations: readonly LimitedDestination[]): readonly PlannedLimit[] | null {
    return this.#limits.forAll(client, destinations);
  }
}

/**
 * What a DestinationRule says of connections to a port of a service. Of a subset, what it says precedes what is said of the
 * service, and of its port, both.
 */
export function policyOfRule(
  rule: CompiledDestinationRule,
  dialledPort: number,
  subset: DestinationSubset | null,
): TrafficPolicy {
  const port = String(dialledPort);
  const whole = ofPort(rule.ports, port) ?? rule.policy;
  return subset === null ? whole : (ofPort(subset.ports, port) ?? merged(whole, subset));
}

/** By subset and policy: each connection asks for one. */
const mergedPolicies = new WeakMap<DestinationSubset, WeakMap<TrafficPolicy, TrafficPolicy>>();

function merged(whole: TrafficPolicy, subset: DestinationSubset): TrafficPolicy {
  const ofSubset = mergedPolicies.get(subset) ?? new WeakMap<TrafficPolicy, TrafficPolicy>();
  const known = ofSubset.get(whole);
  if (known !== undefined) return known;
  const policy = { ...whole, ...subset.policy };
  // How connections are shared is one thing: a subset that says how has a warm-up of its own or none.
  if (subset.policy.balancing !== undefined && subset.policy.warmup === undefined) delete policy.warmup;
  ofSubset.set(whole, policy);
  mergedPolicies.set(subset, ofSubset);
  return policy;
}

function ofPort(ports: Readonly<Record<string, TrafficPolicy>>, port: string): TrafficPolicy | undefined {
  return Object.hasOwn(ports, port) ? ports[port] : undefined;
}
