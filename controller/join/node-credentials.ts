import { agentPermissions } from '../nats/agent-permissions.js';
import { mintUserJwt, type NkeyPair } from '../../shared/bus/nats-accounts.js';
import type { RenewResponse } from '../../shared/wire/requests.js';
import type { MeshCa } from '../ca/mesh-ca.js';
import type { NodeName } from '../../shared/routing/names.js';

/**
 * Issues the two credentials of a node, its certificate and its NATS JWT, which expire together. Callers decide which node
 * may have them. Errors: `CSR_INVALID`, `NKEY_INVALID`, `CA_EXPIRED`.
 */
export class NodeCredentials {
  readonly #ca: MeshCa;
  readonly #account: NkeyPair;
  readonly #signingPublicKeys: string[];

  constructor(init: {
    readonly ca: MeshCa;
    /** The NATS account of the mesh, with its seed. */
    readonly account: NkeyPair;
    readonly signingPublicKeys: readonly string[];
  }) {
    this.#ca = init.ca;
    this.#account = init.account;
    this.#signingPublicKeys = [...init.signingPublicKeys];
  }

  async issue(request: {
    readonly node: NodeName;
    readonly csrPem: string;
    readonly natsUserPublicKey: string;
  }): Promise<RenewResponse> {
    const { node, csrPem, natsUserPublicKey } = request;
    const certificate = await this.#ca.signNode({ csrPem, node });
    const natsJwt = mintUserJwt({
      account: this.#account,
      userPublicKey: natsUserPublicKey,
      name: node,
      permissions: agentPermissions(node),
      expiresAtMs: certificate.notAfterMs,
    });
    return {
      nodeCertificatePem: certificate.chainPem,
      natsJwt,
      notAfterMs: certificate.notAfterMs,
      rootsPem: this.#ca.rootsPem,
      signingPublicKeys: this.#signingPublicKeys,
    };
  }
}
