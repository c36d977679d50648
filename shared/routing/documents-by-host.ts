import { isWildcard, serviceHost, wildcardMatches } from './service-hosts.js';

type Named = { readonly namespace: string; readonly name: string };

/** A document about services. `exportTo`: namespaces whose clients go by it; absent: all. */
type HostDocument = Named & { readonly host: string; readonly exportTo?: readonly string[] };

/**
 * Which document is for a client and a service. Of several the first in Istio's order: that of the client's namespace, of the
 * service's, of the root namespace; within one namespace the whole name, then the longest wildcard. A client of the root
 * namespace gets of its own only what is private there before the service's, so that a document for the whole mesh does not
 * hide that of a service. Source: Istio's reference, Networking / Destination Rule, and pilot/pkg/model/push_context.go.
 */
export class DocumentsByHost<T extends HostDocument> {
  readonly #documents: readonly T[];
  readonly #rootNamespace: string;
  readonly #byNamespace = new Map<string, OfNamespace<T>>();
  /** By service, and then by the namespace of the client. */
  readonly #known = new WeakMap<Named, Map<string, T | null>>();

  /** Owns nothing of `documents`, which it keeps. */
  constructor({ documents, rootNamespace }: { readonly documents: readonly T[]; readonly rootNamespace: string }) {
    this.#documents = documents;
    this.#rootNamespace = rootNamespace;
    for (const document of documents) {
      const present = this.#byNamespace.get(document.namespace) ?? new OfNamespace<T>();
      this.#byNamespace.set(document.namespace, present);
      present.add(document);
    }
  }

  /** Whether it was made of the same ones. */
  isOf(documents: readonly T[], rootNamespace: string): boolean {
    return (
      rootNamespace === this.#rootNamespace &&
      documents.length === this.#documents.length &&
      documents.every((document, index) => document === this.#documents[index])
    );
  }

  /** The one for connections from a namespace to a service; null: there is none. */
  find(service: Named, clientNamespace: string): T | null {
    if (this.#documents.length === 0) return null;
    const ofService = this.#known.get(service) ?? new Map<string, T | null>();
    const known = ofService.get(clientNamespace);
    if (known !== undefined) return known;
    const found = this.#search(service, clientNamespace);
    ofService.set(clientNamespace, found);
    this.#known.set(service, ofService);
    return found;
  }

  #search(service: Named, client: string): T | null {
    const host = serviceHost(service);
    const isRoot = client === this.#rootNamespace;
    const own = this.#byNamespace.get(client)?.find(host, isRoot ? isPrivate : () => true);
    if (own !== undefined) return own;
    const isExported = ({ exportTo }: T): boolean => exportTo?.includes(client) ?? true;
    for (const namespace of [service.namespace, this.#rootNamespace]) {
      const found = this.#byNamespace.get(namespace)?.find(host, isExported);
      if (found !== undefined) return found;
    }
    return null;
  }
}

/** Only for clients of its own namespace. */
function isPrivate({ namespace, exportTo }: HostDocument): boolean {
  return exportTo?.length === 1 && exportTo[0] === namespace;
}

/** The documents of one namespace. */
class OfNamespace<T extends HostDocument> {
  readonly #byName = new Map<string, T>();
  /** The longest first. */
  readonly #wildcards: T[] = [];

  /** Of two for one host the first counts; the controller refuses the second. */
  add(document: T): void {
    if (!isWildcard(document.host)) {
      if (!this.#byName.has(document.host)) this.#byName.set(document.host, document);
      return;
    }
    const at = this.#wildcards.findIndex(({ host }) => host.length < document.host.length);
    this.#wildcards.splice(at < 0 ? this.#wildcards.length : at, 0, document);
  }

  find(host: string, isFor: (document: T) => boolean): T | undefined {
    const named = this.#byName.get(host);
    if (named !== undefined && isFor(named)) return named;
    return this.#wildcards.find((document) => wildcardMatches(document.host, host) && isFor(document));
  }
}
