/**
 * Who may change the rules of a namespace. With fail mode open a supervisor removes what a dead agent left when no other one
 * serves in time, also while the next one starts. Each namespace has one owner at any time, so neither takes rules from under
 * the other.
 */
export type RuleOwnership = {
  /** Resolves when nothing else changes the rules of this namespace: they are this process's until {@link giveBack}. */
  take(netnsInode: number): Promise<void>;
  /**
   * The rules could not be loaded, or there are none any more: a supervisor may remove what is there. Does nothing for what was
   * not taken.
   */
  giveBack(netnsInode: number): void;
};

/** Of an agent whose supervisor removes nothing, or that has none. */
export const soleOwner: RuleOwnership = { take: () => Promise.resolve(), giveBack: () => undefined };
