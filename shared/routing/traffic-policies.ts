import { BoundedCache } from '../policy/prepared/bounded-cache.js';
import type { CompiledDestinationRule, Snapshot, TrafficPolicy } from '../policy/snapshot.js';
import { isWildcard, serviceHost, wildcardMatches } from './service-hosts.js';

type Named = { readonly namespace: string; readonly name: string };
type Rules = Pick<Snapshot, 'destinationRules' | 'mesh'>;

/** Answers that are kept, by the namespace of the client and the service. */
const maxKnown = 4096;

/**
 * Which DestinationRule is for a client and a service. Of several the first in Istio's order: that of the client's namespace,
 * of the service's, of the root namespace; within one namespace the whole name, then the longest wildcard. A client of the
 * root namespace gets of its own only what is private there before the service's, so that a rule for the whole mesh does not
 * hide that of a service. Source: Istio's reference, Networking / Destination Rule, and pilot/pkg/model/push_context.go.
 */
export class TrafficPolicies {
  readonly #rules: readonly CompiledDestinationRule[];
  readonly #rootNamespace: string;
  readonly #byNamespace = new Map<string, HostRules>();
  readonly #known = new BoundedCache<string, CompiledDestinationRule | null>({ maxEntries: maxKnown });

  /** Owns nothing of `snapshot`, whose lists it keeps. */
  constructor({ destinationRules = [], mesh }: Rules) {
    this.#rules = destinationRules;
    this.#rootNamespace = mesh.rootNamespace;
    for (const rule of destinationRules) {
      const present = this.#byNamespace.get(rule.namespace);
      if (present === undefined) this.#byNamespace.set(rule.namespace, new HostRules([rule]));
      else present.add(rule);
    }
  }

  /** The policies of a snapshot: `before` itself where nothing of it has changed, with all that it knows. */
  static of(snapshot: Rules, before: TrafficPolicies | null): TrafficPolicies {
    return before?.isFor(snapshot) === true ? before : new TrafficPolicies(snapshot);
  }

  /** Whether it was made of the same rules. */
  isFor({ destinationRules = [], mesh }: Rules): boolean {
    return (
      mesh.rootNamespace === this.#rootNamespace &&
      destinationRules.length === this.#rules.length &&
      destinationRules.every((rule, index) => rule === this.#rules[index])
    );
  }

  /** What the rules say of connections from a namespace to a port of a service; null: there is no rule for them. */
  policyFor(
    service: Named,
    client: { readonly namespace: string; readonly dialledPort: number },
  ): TrafficPolicy | null {
    if (this.#rules.length === 0) return null;
    const rule = this.ruleFor(service, client.namespace);
    if (rule === null) return null;
    const port = String(client.dialledPort);
    return (Object.hasOwn(rule.ports, port) ? rule.ports[port] : undefined) ?? rule.policy;
  }

  /** The rule for connections from a namespace to a service; null: there is none. */
  ruleFor(service: Named, clientNamespace: string): CompiledDestinationRule | null {
    if (this.#rules.length === 0) return null;
    const key = `${clientNamespace} ${service.namespace}/${service.name}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const found = this.#find(service, clientNamespace);
    this.#known.set(key, found);
    return found;
  }

  #find(service: Named, client: string): CompiledDestinationRule | null {
    const host = serviceHost(service);
    const isRoot = client === this.#rootNamespace;
    const own = this.#byNamespace.get(client)?.find(host, isRoot ? (rule) => isPrivate(rule) : () => true);
    if (own !== undefined) return own;
    const isExported = (rule: CompiledDestinationRule): boolean => rule.exportTo?.includes(client) ?? true;
    for (const namespace of [service.namespace, this.#rootNamespace]) {
      const found = this.#byNamespace.get(namespace)?.find(host, isExported);
      if (found !== undefined) return found;
    }
    return null;
  }
}

/** Only for clients of its own namespace. */
function isPrivate({ namespace, exportTo }: CompiledDestinationRule): boolean {
  return exportTo?.length === 1 && exportTo[0] === namespace;
}

/** The rules of one namespace. */
class HostRules {
  readonly #byName = new Map<string, CompiledDestinationRule>();
  /** The longest first. */
  readonly #wildcards: CompiledDestinationRule[] = [];

  constructor(rules: readonly CompiledDestinationRule[]) {
    for (const rule of rules) this.add(rule);
  }

  /** Of two for one host the first counts; the controller refuses the second. */
  add(rule: CompiledDestinationRule): void {
    if (!isWildcard(rule.host)) {
      if (!this.#byName.has(rule.host)) this.#byName.set(rule.host, rule);
      return;
    }
    const at = this.#wildcards.findIndex(({ host }) => host.length < rule.host.length);
    this.#wildcards.splice(at < 0 ? this.#wildcards.length : at, 0, rule);
  }

  find(host: string, isFor: (rule: CompiledDestinationRule) => boolean): CompiledDestinationRule | undefined {
    const named = this.#byName.get(host);
    if (named !== undefined && isFor(named)) return named;
    return this.#wildcards.find((rule) => wildcardMatches(rule.host, host) && isFor(rule));
  }
}
