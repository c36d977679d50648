import { agentPermissions } from '../nats/agent-permissions.js';
import { consumerPrefixFor } from '../../shared/bus/subjects.js';
import { mintUserJwt, type NkeyPair } from '../../shared/bus/nats-accounts.js';
import type { RenewResponse } from '../../shared/wire/requests.js';
import type { CertificateIssuer } from '../ca/certificate-issuer.js';
import type { NodeMembers, Standing } from './node-members.js';
import type { NodeName } from '../../shared/routing/names.js';

/**
 * Issues the two credentials of a node, its certificate and its NATS JWT, which expire together. Callers decide which node
 * may have them. Errors: `CSR_INVALID`, `NKEY_INVALID`, `CA_EXPIRED`, `STATE_WRITE`, `TOO_MANY_CREDENTIALS`, and
 * `NODE_REMOVED` when the node was removed meanwhile.
 */
export class NodeCredentials {
  readonly #ca: CertificateIssuer;
  readonly #account: NkeyPair;
  readonly #signingPublicKeys: string[];
  readonly #members: NodeMembers;

  constructor(init: {
    readonly ca: CertificateIssuer;
    readonly members: NodeMembers;
    /** The NATS account of the mesh, with its seed. */
    readonly account: NkeyPair;
    readonly signingPublicKeys: readonly string[];
  }) {
    this.#ca = init.ca;
    this.#account = init.account;
    this.#members = init.members;
    this.#signingPublicKeys = [...init.signingPublicKeys];
  }

  /** To be read before the node proves itself or a token is redeemed. */
  standing(node: NodeName): Standing {
    return this.#members.standing(node);
  }

  /**
   * `standing` and `by`: see {@link NodeMembers.noteIssued}. `namesConsumers`: the node can do with its own names of consumers.
   * A node that once could gets no credential for other names until it joins again: who holds its key must not have more by
   * asking as an agent of the version before would.
   */
  async issue(request: {
    readonly node: NodeName;
    readonly csrPem: string;
    readonly natsUserPublicKey: string;
    readonly standing: Standing;
    readonly by: 'join' | 'renewal';
    readonly namesConsumers?: true;
  }): Promise<RenewResponse> {
    const { node, csrPem, natsUserPublicKey, standing, by } = request;
    const namesConsumers = request.namesConsumers === true || (by === 'renewal' && this.#members.namesConsumers(node));
    const certificate = await this.#ca.signNode({ csrPem, node });
    const natsJwt = mintUserJwt({
      account: this.#account,
      userPublicKey: natsUserPublicKey,
      name: node,
      permissions: agentPermissions(node, { anyConsumer: !namesConsumers }),
      expiresAtMs: certificate.notAfterMs,
    });
    const { serial, notAfterMs } = certificate;
    await this.#members.noteIssued({ node, natsUserPublicKey, serial, notAfterMs, standing, by, namesConsumers });
    return {
      nodeCertificatePem: certificate.chainPem,
      natsJwt,
      notAfterMs,
      rootsPem: this.#ca.rootsPem,
      signingPublicKeys: this.#signingPublicKeys,
      ...(namesConsumers ? { consumerPrefix: consumerPrefixFor(node) } : {}),
    };
  }
}
