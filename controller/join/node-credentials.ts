import { agentPermissions } from '../nats/agent-permissions.js';
import { mintUserJwt, type NkeyPair } from '../../shared/bus/nats-accounts.js';
import type { RenewResponse } from '../../shared/wire/requests.js';
import type { MeshCa } from '../ca/mesh-ca.js';
import type { NodeMembers } from './node-members.js';
import type { NodeName } from '../../shared/routing/names.js';

/**
 * Issues the two credentials of a node, its certificate and its NATS JWT, which expire together. Callers decide which node
 * may have them. Errors: `CSR_INVALID`, `NKEY_INVALID`, `CA_EXPIRED`,
 * `STATE_WRITE`.
 */
export class NodeCredentials {
  readonly #ca: MeshCa;
  readonly #account: NkeyPair;
  readonly #signingPublicKeys: string[];
  readonly #members: NodeMembers;

  constructor(init: {
    readonly ca: MeshCa;
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
    const { serial, notAfterMs } = certificate;
    await this.#members.noteIssued({ node, natsUserPublicKey, serial, notAfterMs });
    return {
      nodeCertificatePem: certificate.chainPem,
      natsJwt,
      notAfterMs,
      rootsPem: this.#ca.rootsPem,
      signingPublicKeys: this.#signingPublicKeys,
    };
  }
}
