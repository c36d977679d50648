import type { RuleOwnership } from './capture/rule-ownership.js';

/**
 * What an agent and its supervisor say to each other. The agent reports that it serves the workloads that it served
 * before, that its listening sockets changed, and that another agent took over its host. `take-rules`: it is about to load
 * rules into a namespace, and waits for `rules-taken`. `give-rules-back`: it could not.
 */
export type FromSupervised =
  | { readonly type: 'serving' | 'sockets' | 'succeeded' }
  | { readonly type: 'take-rules' | 'give-rules-back'; readonly netnsInode: number };

/**
 * `recheck-capture`: check the rules of capture now. `sockets-outlive-you`: the service manager keeps the listening
 * sockets when this agent and its supervisor end. `rules-taken`: the supervisor removes nothing from this namespace.
 */
export type ToSupervised =
  | { readonly type: 'recheck-capture' | 'sockets-outlive-you' }
  | { readonly type: 'rules-taken'; readonly netnsInode: number };

/** The environment variable with the number of listening sockets that a supervised agent is started with. */
export const inheritedCount = 'CULVERT_SUPERVISED_SOCKETS';
/** Their first descriptor: 3 is the channel to the supervisor. */
export const firstInheritedFd = 4;
/** The environment variable of an agent whose supervisor may remove rules and answers `take-rules`: one of before does not. */
export const sharesRules = 'CULVERT_SUPERVISED_RULES';

/** The rules of a supervised agent in fail mode open: each namespace's are its own once the supervisor has said so. */
export class SupervisedRules implements RuleOwnership {
  readonly #tell: (message: FromSupervised) => void;
  readonly #taking = new Map<number, { readonly taken: Promise<void>; readonly onTaken: () => void }>();
  #isAlone = false;

  constructor(init: { readonly tell: (message: FromSupervised) => void }) {
    this.#tell = init.tell;
  }

  async take(netnsInode: number): Promise<void> {
    if (this.#isAlone) return;
    let entry = this.#taking.get(netnsInode);
    if (entry === undefined) {
      let onTaken = (): void => undefined;
      const taken = new Promise<void>((resolve) => (onTaken = resolve));
      entry = { taken, onTaken };
      this.#taking.set(netnsInode, entry);
      this.#tell({ type: 'take-rules', netnsInode });
    }
    await entry.taken;
  }

  giveBack(netnsInode: number): void {
    if (this.#taking.delete(netnsInode)) this.#tell({ type: 'give-rules-back', netnsInode });
  }

  onTaken(netnsInode: number): void {
    this.#taking.get(netnsInode)?.onTaken();
  }

  /** The supervisor has ended, and removes nothing any more. */
  onAlone(): void {
    this.#isAlone = true;
    for (const { onTaken } of this.#taking.values()) onTaken();
  }
}
