import { parseSpiffeId, type SpiffeId } from '../../shared/identity.js';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { SignRequest, SignResponse } from '../../shared/wire/requests.js';
import type { CertificateIssuer } from './certificate-issuer.js';
import type { NodeName } from '../../shared/routing/names.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

/** Why a certificate was not issued; the label `reason` of the metric. */
export type SignRefusal = 'IDENTITY_NOT_ON_NODE' | 'TRUST_DOMAIN' | 'CSR_INVALID' | 'CA_FAILED' | 'ISSUER_FAILED';

/** Agents wait 10 s. */
const answerWithinMs = 8000;

type Result = SignResponse['certificates'][number];

/**
 * Answers the verb `sign`: issues certificates for the workloads of a node. It signs an identity only for a node on which
 * a workload with that identity is registered; other requests are refused, logged and counted. It ignores the names,
 * usages and lifetime in the certificate request.
 */
export class SignService {
  readonly #ca: CertificateIssuer;
  readonly #isRegistered: (node: NodeName, identity: SpiffeId) => boolean;
  readonly #trustDomain: string;
  readonly #log: Log;
  readonly #onSigned: () => void;
  readonly #onRefused: (reason: SignRefusal) => void;

  constructor(init: {
    readonly ca: CertificateIssuer;
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
    // What an issuer elsewhere has not signed by then is refused, so that what it has signed comes in time.
    const signal = timeoutSignal(answerWithinMs);
    const certificates: Result[] = [];
    const left = request.requests.entries();
    const signInTurn = async (): Promise<void> => {
      for (const [index, { identity, csrPem }] of left) {
        certificates[index] = await this.#signOne({ node, identity, csrPem, signal });
      }
    };
    await Promise.all(Array.from({ length: this.#ca.parallel }, signInTurn));
    return { rootsPem: this.#ca.rootsPem, certificates };
  }

  async #signOne(o: {
    readonly node: NodeName;
    readonly identity: SpiffeId;
    readonly csrPem: string;
    readonly signal: AbortSignal;
  }): Promise<Result> {
    const { node, identity } = o;
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
      const { chainPem, notAfterMs } = await this.#ca.signWorkload(o);
      this.#onSigned();
      return { identity, chainPem, notAfterMs };
    } catch (error) {
      const isBadRequest = error instanceof CulvertError && error.code === 'CSR_INVALID';
      if (isBadRequest) return this.#refuse(node, identity, 'CSR_INVALID', describeError(error));
      return this.#refuse(
        node,
        identity,
        this.#ca.external === null ? 'CA_FAILED' : 'ISSUER_FAILED',
        describeError(error),
      );
    }
  }

  #refuse(node: NodeName, identity: SpiffeId, code: SignRefusal, message: string): Result {
    this.#onRefused(code);
    // The issuer's problem has its own line, once.
    const level = code === 'ISSUER_FAILED' ? 'debug' : 'warn';
    this.#log[level]({ node, identity, code, problem: message }, 'refused to sign a certificate');
    return { identity, error: { code, message, hint: hints[code] } };
  }
}

const hints: Readonly<Record<SignRefusal, string>> = {
  IDENTITY_NOT_ON_NODE: 'set spec.node of the Workload to this node with culvert apply',
  TRUST_DOMAIN: 'join this agent to the mesh whose trust domain it uses',
  CSR_INVALID: 'run the same version of culvert-agent and culvert-controller',
  CA_FAILED: 'check the log of the controller',
  ISSUER_FAILED: 'agents ask again by themselves; culvert status shows the issuer',
};
