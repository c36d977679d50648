import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';

/** What an analysis looks at: one compiled set of rules, and the workloads and services that it holds for. */
export type RuleSet = { readonly snapshot: Snapshot; readonly entries: readonly RegistryEntry[] };
