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
};
