import { parseSpiffeId, type SpiffeId } from '../../shared/identity.js';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { SignRequest, SignResponse } from '../../shared/wire/requests.js';
import type { MeshCa } from './mesh-ca.js';
import type { NodeName } from '../../shared/routing/names.js';

/** Why a certificate was not issued; the label `reason` of the metric. */
export type SignRefusal = 'IDENTITY_NOT_ON_NODE' | 'TRUST_DOMAIN' | 'CSR_INVALID' | 'CA_FAILED';

type Result = SignResponse['certificates'][number];

/**
 * Answers the verb `sign`: issues certificates for the workloads of a node. It signs an identity only for a node on which
 * a workload with that identity is registered; other requests are refused, logged and counted. It ignores the names,
 * usages and lifetime in the certificate request.
 */
export class SignService {
  readonly #ca: MeshCa;
  readonly #isRegistered: (node: NodeName, identity: SpiffeId) => boolean;
  readonly #trustDomain: string;
  readonly #log: Log;
  readonly #onSigned: () => void;
  readonly #onRefused: (reason: SignRefusal) => void;

  constructor(init: {
    readonly ca: MeshCa;
    /** Whether a workload with this identity is registered on the node now. */
    readonly isRegistered: (node: NodeName, identity: SpiffeId) => boolean;
    readonly trustDomain: string;
    readonly log: Log;
    readonly onSigned: () => void;
    readonly onRefused: (reason: SignRefusal) => void;
  }) {
    this.#ca = init.ca;
    this.#isRegistered = init.isRegistered;
    this.#trustDomain = init.trustDomain;
    this.#log = init.log;
    this.#onSigned = init.onSigned;
    this.#onRefused = init.onRefused;
  }

  /** `node` comes from the request's subject, which proves it. */
  async sign(node: NodeName, request: SignRequest): Promise<SignResponse> {
    const certificates: Result[] = [];
    for (const { identity, csrPem } of request.requests) certificates.push(await this.#signOne(node, identity, csrPem));
    return { rootsPem: this.#ca.rootsPem, certificates };
  }

  async #signOne(node: NodeName, identity: SpiffeId, csrPem: string): Promise<Result> {
    if (parseSpiffeId(identity)?.trustDomain !== this.#trustDomain) {
      return this.#refuse(node, identity, 'TRUST_DOMAIN', `this mesh signs only identities of ${this.#trustDomain}`);
    }
    if (!this.#isRegistered(node, identity)) {
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
}

const hints: Readonly<Record<SignRefusal, string>> = {
  IDENTITY_NOT_ON_NODE: 'set spec.node of the Workload to this node with culvert apply',
  TRUST_DOMAIN: 'join this agent to the mesh whose trust domain it uses',
  CSR_INVALID: 'run the same version of culvert-agent and culvert-controller',
  CA_FAILED: 'check the log of the controller',
};
