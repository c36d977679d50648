import type { CompiledRateLimit, RateLimitSource } from '../policy/traffic-documents.js';
import { serviceAccountName, serviceName } from './names.js';
import { isWildcard, serviceHost, wildcardMatches } from './service-hosts.js';

type Named = { readonly namespace: string; readonly name: string };

/** Who dials, as it is registered. */
export type LimitedClient = {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
};

/** A RateLimit that is for a connection, and the budget that it takes from. */
export type PlannedLimit = {
  readonly document: CompiledRateLimit;
  /** `RateLimit/billing/ledger`. */
  readonly name: string;
  /** Names the budget, and nothing else has the same. It outlives changes of the document's numbers. */
  readonly key: string;
  /** The service account of the client, `billing/api`. */
  readonly client: string;
  /** Whose budget it is, for people: `from billing/api to billing/ledger:80`. */
  readonly of: string;
};

/**
 * Which RateLimits are for a connection. All of them count, unlike DestinationRules, of which one does: a limit never makes room
 * that another one does not give. One in the namespace of the service or in the root namespace is for all clients, one of any
 * other namespace for the clients of that namespace alone, so none limits the clients and services of others.
 */
export class RateLimits {
  readonly #documents: readonly CompiledRateLimit[];
  readonly #rootNamespace: string;
  readonly #byHost = new Map<string, CompiledRateLimit[]>();
  readonly #wildcards: readonly CompiledRateLimit[];

  /** Owns nothing of `documents`, which it keeps. */
  constructor(init: { readonly documents: readonly CompiledRateLimit[]; readonly rootNamespace: string }) {
    this.#documents = init.documents;
    this.#rootNamespace = init.rootNamespace;
    this.#wildcards = init.documents.filter(({ host }) => isWildcard(host));
    for (const document of init.documents) {
      const present = this.#byHost.get(document.host);
      if (present === undefined) this.#byHost.set(document.host, [document]);
      else present.push(document);
    }
  }

  /** Whether it was made of the same ones. */
  isOf(documents: readonly CompiledRateLimit[], rootNamespace: string): boolean {
    return (
      rootNamespace === this.#rootNamespace &&
      documents.length === this.#documents.length &&
      documents.every((document, index) => document === this.#documents[index])
    );
  }

  /** Null: none is. */
  for(service: Named, client: LimitedClient, dialledPort: number): readonly PlannedLimit[] | null {
    if (this.#documents.length === 0) return null;
    const host = serviceHost(service);
    const named = [
      ...(this.#byHost.get(host) ?? []),
      ...this.#wildcards.filter((document) => wildcardMatches(document.host, host)),
    ];
    const rootNamespace = this.#rootNamespace;
    const found = named.filter(
      (document) =>
        (document.namespace === client.namespace || isOfAll(document, { service, rootNamespace })) &&
        (document.ports?.includes(dialledPort) ?? true) &&
        (document.sources?.some((source) => isLimited(source, client)) ?? true),
    );
    if (found.length === 0) return null;
    return found.map((document) => planned(document, service, client, dialledPort)).sort(byName);
  }

  /**
   * Those of each of the destinations, each budget once: of a service that was dialled, and of another one to which a route
   * leads. Null: none is.
   */
  forAll(client: LimitedClient, destinations: readonly LimitedDestination[]): readonly PlannedLimit[] | null {
    const found = destinations.flatMap(({ service, port }) => this.for(service, client, port) ?? []);
    if (found.length === 0) return null;
    return [...new Map(found.map((limit) => [limit.key, limit])).values()].sort(byName);
  }
}

/** A port of a service, which was dialled or to which a route leads. */
export type LimitedDestination = { readonly service: Named; readonly port: number };

/** Whether a RateLimit is for the clients of all namespaces that dial a service; else it is for those of its own. */
export function isOfAll(
  { namespace }: Named,
  { service, rootNamespace }: { readonly service: Named; readonly rootNamespace: string },
): boolean {
  return namespace === service.namespace || namespace === rootNamespace;
}

/** Whether a client is one of those that a RateLimit names. */
export function isLimited({ namespace, serviceAccount, labels = {} }: RateLimitSource, client: LimitedClient): boolean {
  if (namespace !== undefined && namespace !== client.namespace) return false;
  if (serviceAccount !== undefined && serviceAccount !== serviceAccountName(client)) return false;
  for (const label in labels) if (client.labels[label] !== labels[label]) return false;
  return true;
}

function planned(document: CompiledRateLimit, service: Named, client: LimitedClient, port: number): PlannedLimit {
  const name = rateLimitName(document);
  const account = serviceAccountName(client);
  const from = document.per === 'destination' ? '' : `from ${account}`;
  const to = document.per === 'source' ? '' : `to ${serviceName(service)}:${port}`;
  const of = `${from}${from === '' || to === '' ? '' : ' '}${to}`;
  return { document, name, key: `${name} ${of}`, client: account, of };
}

function byName(a: PlannedLimit, b: PlannedLimit): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

/** `RateLimit/billing/ledger`, as records and metrics have it. */
export function rateLimitName({ namespace, name }: Named): string {
  return `RateLimit/${namespace}/${name}`;
}

/** `12 a second (burst 20), 50 open`. */
export function limitText({
  rate,
  max,
  bytesPerSecond,
}: Pick<CompiledRateLimit, 'rate' | 'max' | 'bytesPerSecond'>): string {
  const parts = rate === undefined ? [] : [`${rate.perSecond} a second (burst ${rate.burst})`];
  if (max !== undefined) parts.push(`${max} open`);
  if (bytesPerSecond !== undefined) parts.push(`${bytesPerSecond} bytes a second each way`);
  return parts.join(', ');
}
