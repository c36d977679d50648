/** What people see of the cluster as the mesh knows it. */
export type KubernetesState = {
  /** Everything was listed once since the start; until then what the inventory has from before stays in force. */
  readonly isSynced: boolean;
  /** Why what is known may be old, or is not in force; empty: it is not. */
  readonly problems: readonly string[];
  readonly pods: number;
  /** Pods in the mesh. */
  readonly enrolled: number;
  readonly services: number;
  /** Objects that are not in force as they are written, with the reason: at most 20. */
  readonly warnings: readonly string[];
  /** Objects of the installation that others changed lately, and that the controller put right. An older one sends none. */
  readonly overwritten?: readonly string[];
  /** Why events are not written; null: they are. A controller of an older version does not say. */
  readonly eventsProblem?: string | null;
  /** Why nodes keep the startup taint, and take no pods; null: none does. A controller of an older version does not say. */
  readonly taintsProblem?: string | null;
  /** Custom resources that are rules. A controller of an older version sends none. */
  readonly rules?: ClusterRulesState;
};

export type ClusterRulesState = {
  /** Objects of the kinds that become rules. */
  readonly objects: number;
  /** Those that the rules have, maybe in an earlier version. */
  readonly taken: number;
  /** Why what is known of them may be old, or is not in force. */
  readonly problems: readonly string[];
  /** Objects that are not taken as they are written, with the reason: at most 20. */
  readonly warnings: readonly string[];
};
