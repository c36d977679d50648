import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';

/** The input of an analysis: one compiled set of rules, and the workloads and services to which it applies. */
export type RuleSet = { readonly snapshot: Snapshot; readonly entries: readonly RegistryEntry[] };
