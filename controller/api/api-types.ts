import type { Role } from '../access/role.js';
import type { NearMiss } from '../analysis/why/near-misses.js';
import type { Problem } from '../resources/kinds/problem.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { Connection, Decision } from '../../shared/policy/connection.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { FlowRecord } from '../../shared/wire/flows.js';
import type { AgentStatus } from '../fleet/agent-registry.js';
import type { BreakGlassRule } from '../fleet/mesh-warnings.js';
import type { Rollout } from '../fleet/rollout-progress.js';
import type { ResourceChange } from '../store/history.js';
import type { InventoryOutcome } from '../store/change-outcome.js';

/** Bodies of the HTTP API, as the routes answer them and the `culvert` command reads them. Errors: `ErrorBody`. */

/** `POST /v1/apply`, body: `{ documents: string, dryRun?: boolean, message?: string }`. */
export type ApplyAnswer = {
  /** The revision of the rules that holds now; unchanged by a dry run, and when only workloads and services changed. */
  readonly revision: number;
  readonly inventory: InventoryOutcome;
  readonly dryRun: boolean;
  readonly changes: readonly ResourceChange[];
  readonly warnings: readonly Problem[];
};

/** Status 422 of apply and delete: nothing was changed. */
export type ProblemsAnswer = {
  readonly code: 'INVALID_RESOURCES';
  readonly message: string;
  readonly hint: string;
  /** Errors, and the warnings that were found with them. */
  readonly problems: readonly Problem[];
};

/** One document and the change that last touched it. */
export type ResourceItem = {
  readonly resource: Resource;
  /** Of the rules; of a workload or a service, the sequence of the inventory. */
  readonly revision: number;
  /** RFC 3339. */
  readonly appliedAt: string;
  readonly appliedBy: string;
};

/** `GET /v1/resources/:kind[?namespace=]`; with `/:name` the answer is one {@link ResourceItem}. */
export type ResourceList = { readonly revision: number; readonly items: readonly ResourceItem[] };

/** `DELETE /v1/resources/:kind/:namespace/:name`; namespace `-` for kinds of the whole mesh. */
export type DeleteAnswer = {
  readonly revision: number;
  readonly inventory: InventoryOutcome;
  readonly changes: readonly ResourceChange[];
  readonly warnings: readonly Problem[];
};

/** Which agent asks the rules about a connection. */
export type Enforcer = 'source' | 'destination';

/** One connection that the question can mean, and what happens to it. */
export type ExplainedConnection = {
  readonly facts: Connection;
  /** `namespace/name` of the service that was asked about; null when it was a workload or an address. */
  readonly service: string | null;
  /** Agents that enforce the decision; empty: no agent is on this path, so nothing is enforced. */
  readonly enforcedBy: readonly Enforcer[];
  readonly decision: Decision;
  /** The change that last touched the document of the rule that decides; null: the mesh's default, which has none. */
  readonly ruleApplied: Omit<ResourceItem, 'resource'> | null;
  /** Facts that would turn the decision round, the least change first. */
  readonly nearMisses: readonly NearMiss[];
  /** What else a person should know, in whole sentences. */
  readonly notes: readonly string[];
};

/** `GET /v1/why?source=&destination=&port=`: the first connection at the top, all others below. */
export type WhyAnswer = ExplainedConnection & {
  readonly revision: number;
  /** Who applied that revision, and when (RFC 3339). */
  readonly appliedBy: string;
  readonly appliedAt: string;
  /** Other connections that the same words mean: further workloads of the service account, endpoints of the service. */
  readonly others: readonly ExplainedConnection[];
};

/** `GET /v1/status`. */
export type StatusAnswer = {
  readonly controller: {
    readonly version: string;
    readonly trustDomain: string;
    readonly startedAt: string;
    /** Names of what it waits for, as under /readyz. */
    readonly pending: readonly string[];
    /** RFC 3339. */
    readonly issuingCaNotAfter: string;
  };
  readonly revision: number;
  /** Of the inventory: rises with every change of workloads and services. */
  readonly inventorySequence: number;
  readonly appliedAt: string;
  readonly appliedBy: string;
  readonly agents: readonly AgentStatus[];
  /** What a person should look at: references to nothing, tests that fail, rules that expire within 7 days. */
  readonly warnings: readonly Problem[];
  /** Emergency rules that are in force now, the next to expire first. */
  readonly breakGlass: readonly BreakGlassRule[];
};

/** One revision, as `GET /v1/history[?limit=]` lists them: an array, newest first. */
export type HistoryItem = {
  readonly revision: number;
  /** RFC 3339. */
  readonly at: string;
  /** Who: the subject of the API credential; `system` for what the controller does by itself. */
  readonly by: string;
  /** What was said with `apply --message`; null: nothing. */
  readonly message: string | null;
  /** The revision whose documents it brought back; null: it was no rollback. */
  readonly rollbackOf: number | null;
  /** False for the oldest revision that is kept: what came before it is no longer known. */
  readonly areChangesKnown: boolean;
  readonly changeCount: number;
  /** At most the first 100 in the list; all of them under `/v1/history/:revision`. */
  readonly changes: readonly ResourceChange[];
};

/** `GET /v1/history/:revision`: with the documents that it changed. */
export type HistoryDetail = HistoryItem & { readonly documents: readonly DocumentDiff[] };

/** A document before and after one revision; null: it did not exist. */
export type DocumentDiff = ResourceChange & { readonly before: Resource | null; readonly after: Resource | null };

/** `POST /v1/rollback`, body: `{ revision: number, dryRun?: boolean, message?: string }`. Status 422 as for apply. */
export type RollbackAnswer = ApplyAnswer & {
  /** The revision whose documents now hold again. */
  readonly rollbackOf: number;
};

/**
 * `GET /v1/rollout[?revision=&inventory=]`: who enforces a revision (the present one unless given), and with `inventory`
 * has what is registered up to that sequence too.
 */
export type RolloutAnswer = Rollout;
export type { BreakGlassRule } from '../fleet/mesh-warnings.js';
export type { RolloutAgent, RolloutState } from '../fleet/rollout-progress.js';

/** `GET /v1/export`: everything that the tools need to work without the controller. */
export type ExportAnswer = {
  readonly revision: number;
  readonly inventorySequence: number;
  readonly snapshot: Snapshot;
  readonly entries: readonly RegistryEntry[];
  /** All documents as YAML, in an order that does not depend on history. Applying it to an empty mesh gives this one. */
  readonly resources: string;
};

/** `GET /v1/flows[?sinceMs=&namespace=]`: connections as the agents recorded them, seen last first. */
export type FlowsAnswer = {
  /** Each end of a connection between two workloads reports its own: `outbound` and `inbound`. */
  readonly flows: readonly FlowRecord[];
  /** Flows beyond the most that one answer has: those seen longest ago. */
  readonly leftOut: number;
  /** Connections that no flow shows apart or at all, because there were too many different ones. */
  readonly notKept: number;
  /** When the oldest flow that is held was first seen; null: none is. */
  readonly oldestMs: number | null;
  /** False while stored flows are still being read, or NATS is away. */
  readonly isCurrent: boolean;
};

/** `POST /v1/tokens`, body: `{ node, ttlMs? }`. The token is shown this once. */
export type TokenAnswer = { readonly token: string; readonly node: string; readonly expiresAtMs: number };

/** One of the array of `GET /v1/users`. Times are RFC 3339; `expiresAt` null: never. */
export type UserAnswer = {
  readonly name: string;
  readonly role: Role;
  readonly createdBy: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
};

/** `POST /v1/users`, body: `{ name, role, ttlMs? }`. The token is shown this once. `DELETE /v1/users/:name` ends it. */
export type UserCreatedAnswer = UserAnswer & { readonly token: string };

/** `GET /readyz`: status 200 when nothing is pending, else 503. */
export type ReadyAnswer = { readonly isReady: boolean; readonly pending: readonly PendingTask[] };
export type PendingTask = { readonly name: string; readonly detail: string };
