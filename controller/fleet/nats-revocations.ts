import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import type { NodeMembers } from '../join/node-members.js';
import type { MeshNats } from '../nats/mesh-nats.js';

/** `operator`: only the operator of NATS can revoke. */
export type RevocationOutcome =
  | { readonly kind: 'revoked' }
  | { readonly kind: 'operator' }
  | { readonly kind: 'pending'; readonly problem: string };

/** Keeps the users that NATS refuses in step with the nodes that were removed, and tries again what failed. */
export class NatsRevocations {
  readonly #members: Pick<NodeMembers, 'revokedUsers'>;
  readonly #nats: Pick<MeshNats, 'revoke'>;
  readonly #log: Log;
  /** One after the other: an older list must not replace a newer one. */
  readonly #queue = new SerialQueue();
  #isPending = false;

  constructor(init: {
    readonly members: Pick<NodeMembers, 'revokedUsers'>;
    readonly nats: Pick<MeshNats, 'revoke'>;
    readonly log: Log;
  }) {
    this.#members = init.members;
    this.#nats = init.nats;
    this.#log = init.log;
  }

  /** Gives NATS the users that are revoked now. Never rejects. */
  apply(): Promise<RevocationOutcome> {
    return this.#queue.run(async () => {
      try {
        const isRevoked = await this.#nats.revoke(this.#members.revokedUsers);
        this.#isPending = false;
        return { kind: isRevoked ? 'revoked' : 'operator' };
      } catch (error) {
        this.#isPending = true;
        const problem = describeError(error);
        this.#log.error({ problem }, 'nats-server has not taken over a revocation yet; trying again every minute');
        return { kind: 'pending', problem };
      }
    });
  }

  /** The owner calls it from time to time. */
  async retry(): Promise<void> {
    if (!this.#isPending) return;
    const { kind } = await this.apply();
    if (kind === 'revoked') this.#log.info('nats-server has taken over the revocation');
  }
}
