import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { Inventory } from '../inventory/inventory.js';
import type { NodeMembers } from '../join/node-members.js';

/** Keeps the registry in step with the nodes that were removed, and tries again what failed. */
export class WithdrawnIdentities {
  readonly #members: Pick<NodeMembers, 'removed'>;
  readonly #inventory: Pick<Inventory, 'withdrawIdentities'>;
  readonly #log: Log;
  #isPending = false;

  constructor(init: {
    readonly members: Pick<NodeMembers, 'removed'>;
    readonly inventory: Pick<Inventory, 'withdrawIdentities'>;
    readonly log: Log;
  }) {
    this.#members = init.members;
    this.#inventory = init.inventory;
    this.#log = init.log;
  }

  /**
   * Workloads of removed nodes lose their identities, and those of nodes that have joined again get theirs back. Returns
   * whether that is on disk. Never rejects.
   */
  async apply(): Promise<boolean> {
    try {
      await this.#inventory.withdrawIdentities(() => this.#members.removed);
      this.#isPending = false;
    } catch (error) {
      this.#isPending = true;
      const problem = describeError(error);
      this.#log.error({ problem }, 'the registry does not follow the removed nodes yet; trying again every minute');
    }
    return !this.#isPending;
  }

  /** The owner calls it from time to time. */
  async retry(): Promise<void> {
    if (this.#isPending && (await this.apply())) this.#log.info('the registry follows the removed nodes again');
  }
}
