import { parseSpiffeId, type SpiffeId } from '../../shared/identity.js';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { SignRequest, SignResponse } from '../../shared/wire/requests.js';
import type { MeshCa } from './mesh-ca.js';
import type { NodeName } from '../../shared/routing/names.js';

/** Why a certificate was not issued; the label `reason` of the metric. */
export type SignRefusal = 'IDENTITY_NOT_ON_NODE' | 'TRUST_DOMAIN' | 'CSR_INVALID' | 'CA_FAILED';

type Result = SignResponse['certificates'][number];

/**
 * Answers the verb `sign`: certificates for the workloads of a node. An identity is signed only for a node on which a
 * workload with that identity is registered; everything else is refused, logged and counted. What the request says of
 * names, usages and lifetime means nothing.
 */
export class SignService {
  readonly #ca: MeshCa;
  readonly #entries: () => readonly RegistryEntry[];
  readonly #trustDomain: string;
  readonly #log: Log;
  readonly #onSigned: () => void;
  readonly #onRefused: (reason: SignRefusal) => void;
  /** Identities by node, of the list of entries that it was made from. */
  #index: { readonly of: readonly RegistryEntry[]; readonly identities: ReadonlyMap<string, ReadonlySet<SpiffeId>> };

  constructor(init: {
    readonly ca: MeshCa;
    /** What is registered now. A new list for every change. */
    readonly entries: () => readonly RegistryEntry[];
    readonly trustDomain: string;
    readonly log: Log;
    readonly onSigned: () => void;
    readonly onRefused: (reason: SignRefusal) => void;
  }) {
    this.#ca = init.ca;
    this.#entries = init.entries;
    this.#trustDomain = init.trustDomain;
    this.#log = init.log;
    this.#onSigned = init.onSigned;
    this.#onRefused = init.onRefused;
    this.#index = { of: [], identities: new Map() };
  }

  /** `node` is what the subject of the request proves. */
  async sign(node: NodeName, request: SignRequest): Promise<SignResponse> {
    const certificates: Result[] = [];
    for (const { identity, csrPem } of request.requests) certificates.push(await this.#signOne(node, identity, csrPem));
    return { rootsPem: this.#ca.rootsPem, certificates };
  }

  async #signOne(node: NodeName, identity: SpiffeId, csrPem: string): Promise<Result> {
    if (parseSpiffeId(identity)?.trustDomain !== this.#trustDomain) {
      return this.#refuse(node, identity, 'TRUST_DOMAIN', `this mesh signs only for ${this.#trustDomain}`);
    }
    if (!this.#identitiesOf(node).has(identity)) {
      return this.#refuse(
        node,
        identity,
        'IDENTITY_NOT_ON_NODE',
        `no workload with this identity is registered on the node ${node}`,
      );
    }
    try {
      const { chainPem, notAfterMs } = await this.#ca.signWorkload({ csrPem, identity });
      this.#onSigned();
      return { identity, chainPem, notAfterMs };
    } catch (error) {
      const isBadRequest = error instanceof CulvertError && error.code === 'CSR_INVALID';
      return this.#refuse(node, identity, isBadRequest ? 'CSR_INVALID' : 'CA_FAILED', describeError(error));
    }
  }

  #refuse(node: NodeName, identity: SpiffeId, code: SignRefusal, message: string): Result {
    this.#onRefused(code);
    this.#log.warn({ node, identity, code, problem: message }, 'refused to sign a certificate');
    return { identity, error: { code, message, hint: hints[code] } };
  }

  #identitiesOf(node: NodeName): ReadonlySet<SpiffeId> {
    const entries = this.#entries();
    if (this.#index.of !== entries) this.#index = { of: entries, identities: indexByNode(entries) };
    return this.#index.identities.get(node) ?? new Set();
  }
}

const hints: Readonly<Record<SignRefusal, string>> = {
  IDENTITY_NOT_ON_NODE: 'set spec.node of the Workload to this node with culvert apply',
  TRUST_DOMAIN: 'join this agent to the mesh whose trust domain it uses',
  CSR_INVALID: 'run the same version of culvert-agent and culvert-controller',
  CA_FAILED: 'look at the log of the controller',
};

function indexByNode(entries: readonly RegistryEntry[]): Map<string, Set<SpiffeId>> {
  const identities = new Map<string, Set<SpiffeId>>();
  for (const entry of entries) {
    if (entry.kind !== 'workload' || entry.node === null) continue;
    const ofNode = identities.get(entry.node) ?? new Set();
    ofNode.add(entry.identity);
    identities.set(entry.node, ofNode);
  }
  return identities;
}
