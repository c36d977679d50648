import type { Role } from '../access/role.js';
import type { AuditEntry, ChainHead } from '../audit-log/audit-entry.js';
import type { NearMiss } from '../analysis/why/near-misses.js';
import type { Problem } from '../resources/kinds/problem.js';
import type { ResourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { Connection, Decision } from '../../shared/policy/connection.js';
import type { Snapshot, Tier } from '../../shared/policy/snapshot.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { FlowRecord } from '../../shared/wire/flows.js';
import type { Unconfirmed } from '../ca/unconfirmed.js';
import type { AgentStatus } from '../fleet/agent-registry.js';
import type { AgentPosition, MeshPosition } from '../fleet/agents-ahead.js';
import type { BreakGlassRule } from '../fleet/mesh-warnings.js';
import type { NodeWithoutAgent } from '../fleet/nodes-without-agent.js';
import type { Uncaptured } from '../fleet/capture-progress.js';
import type { KubernetesState } from '../kubernetes/kubernetes-state.js';
import type { ReplicasState } from '../kubernetes/replicas.js';
import type { TokenState } from '../join/join-tokens.js';
import type { Eviction } from '../fleet/evict-node.js';
import type { Rollout } from '../fleet/rollout-progress.js';
import type { ResourceChange } from '../store/history.js';
import type { InventoryOutcome } from '../store/change-outcome.js';

/** Bodies of the HTTP API: the routes send them and the `culvert` command reads them. Errors: `ErrorBody`. */

/** `POST /v1/apply`, body: `{ documents: string, dryRun?: boolean, message?: string }`. */
export type ApplyAnswer = {
  /** The revision of the rules in force. A dry run, or a change of only workloads and services, does not change it. */
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
  /** Errors and warnings. */
  readonly problems: readonly Problem[];
};

/** One document and the change that last modified it. */
export type ResourceItem = {
  readonly resource: Resource;
  /** Of the rules; of a workload or a service, the sequence of the inventory. */
  readonly revision: number;
  /** RFC 3339. */
  readonly appliedAt: string;
  readonly appliedBy: string;
  /** `cluster`: a custom resource, which kubectl changes. A controller of an older version says nothing. */
  readonly origin?: 'documents' | 'cluster';
};

/** `GET /v1/resources/:kind[?namespace=]`; with `/:name` the answer is one {@link ResourceItem}. */
export type ResourceList = { readonly revision: number; readonly items: readonly ResourceItem[] };

/**
 * `DELETE /v1/resources/:kind/:namespace/:name`, where the namespace is `-` for kinds of the whole mesh. `POST /v1/delete`, body:
 * `{ resources: { kind, namespace?, name }[], ignoreMissing?: boolean, dryRun?: boolean }`, deletes all of them or none.
 */
export type DeleteAnswer = {
  readonly revision: number;
  readonly inventory: InventoryOutcome;
  readonly changes: readonly ResourceChange[];
  readonly warnings: readonly Problem[];
  /** With `ignoreMissing`: those that do not exist. A controller of an older version sends none. */
  readonly missing?: readonly ResourceId[];
};

/** The side whose agent evaluates the rules for a connection. */
export type Enforcer = 'source' | 'destination';

/** One connection that the question may mean, and what happens to it. */
export type ExplainedConnection = {
  readonly facts: Connection;
  /** `namespace/name` of the service in the question; null when the question named a workload or an address. */
  readonly service: string | null;
  /** Agents that enforce the decision. Empty: no agent is on this path, so nothing is enforced. */
  readonly enforcedBy: readonly Enforcer[];
  readonly decision: Decision;
  /** The change that last modified the deciding rule's document; null: the mesh's default, which has no document. */
  readonly ruleApplied: Omit<ResourceItem, 'resource'> | null;
  /** Changed facts that would reverse the decision, smallest change first. */
  readonly nearMisses: readonly NearMiss[];
  /** Further remarks for people, in whole sentences. */
  readonly notes: readonly string[];
};

/** `GET /v1/why?source=&destination=&port=`: the first connection at the top level, the rest in `others`. */
export type WhyAnswer = ExplainedConnection & {
  readonly revision: number;
  /** Who applied that revision, and when (RFC 3339). */
  readonly appliedBy: string;
  readonly appliedAt: string;
  /** Other connections that match the question: more workloads of the service account, more endpoints of the service. */
  readonly others: readonly ExplainedConnection[];
};

/** What signs the certificates of a mesh in place of the controller. */
export type IssuerAnswer = {
  readonly kind: 'vault' | 'cert-manager';
  /** Where it is, for people. */
  readonly place: string;
  /** Whether a file names its roots; false: the root of the first start counts. A controller of an older version does not say. */
  readonly hasNamedRoots?: boolean;
  /** Why it does not sign, or will not; null: nothing is known to be wrong. */
  readonly problem: string | null;
  /** RFC 3339; null: there is no problem. */
  readonly problemSince: string | null;
};

/** `GET /v1/status`. */
export type StatusAnswer = {
  readonly controller: {
    readonly version: string;
    readonly trustDomain: string;
    readonly startedAt: string;
    /** Names of the tasks it is waiting for, as in /readyz. */
    readonly pending: readonly string[];
    /** What each pending task waits for, by its name. A controller of an older version sends none. */
    readonly pendingDetails?: Readonly<Record<string, string>>;
    /** RFC 3339. */
    readonly issuingCaNotAfter: string;
    /** An issuer elsewhere that signs; null: the controller does. A controller of an older version sends none. */
    readonly issuer?: IssuerAnswer | null;
  };
  readonly revision: number;
  /** Of the inventory: rises with every change of workloads and services. */
  readonly inventorySequence: number;
  readonly appliedAt: string;
  readonly appliedBy: string;
  readonly agents: readonly AgentStatus[];
  /** Nodes that were removed and have not joined again. A controller of an older version sends none. */
  readonly removedNodes?: readonly string[];
  /** Nodes that registered workloads name and that no agent has joined for. A controller of an older version sends none. */
  readonly nodesWithoutAgent?: readonly NodeWithoutAgent[];
  /** Dangling references, failing tests, and rules that expire within 7 days. */
  readonly warnings: readonly Problem[];
  /** Emergency rules in force now, soonest expiry first. */
  readonly breakGlass: readonly BreakGlassRule[];
  /** The cluster that the controller follows; null: none. A controller of an older version sends none. */
  readonly kubernetes?: KubernetesState | null;
  /** This controller and those that stand by for it; null: there is one. A controller of an older version sends none. */
  readonly replicas?: ReplicasState | null;
};

/** A root by the SHA-256 of its public key. `next`: prepared; `previous`: trusted until the rotation is finished. */
export type CaRoot = {
  readonly hash: string;
  readonly role: 'in use' | 'next' | 'previous';
  readonly subject: string;
  /** RFC 3339. */
  readonly notAfter: string;
};

/** `GET /v1/ca/status`. */
export type CaStatusAnswer = {
  /** The CA that signs certificates, and the hash of its root. */
  readonly issuing: {
    readonly hash: string;
    readonly root: string;
    readonly subject: string;
    readonly notAfter: string;
  };
  readonly roots: readonly CaRoot[];
  /** The step of `culvert-controller ca rotate` that comes next (null: none), and the nodes that it has to wait for. */
  readonly rotation: {
    readonly nextStep: 'activate' | 'finish' | null;
    readonly unconfirmed: readonly Unconfirmed[];
  };
  /** Hashes of the roots that each node trusts, and that its certificates end at; null: not reported. */
  readonly agents: readonly {
    readonly node: string;
    readonly trusts: readonly string[] | null;
    readonly proves: readonly string[] | null;
    readonly lastSeenMs: number | null;
  }[];
  /** How many users have a context file of their own. Absent: a controller of an earlier version. */
  readonly users?: number;
  /** See {@link StatusAnswer}. */
  readonly issuer?: IssuerAnswer | null;
};

/** One revision, as `GET /v1/history[?limit=]` lists them: an array, newest first. */
export type HistoryItem = {
  readonly revision: number;
  /** RFC 3339. */
  readonly at: string;
  /** The subject of the API credential; `system` for changes that the controller makes by itself. */
  readonly by: string;
  /** The text of `apply --message`; null: none. */
  readonly message: string | null;
  /** The revision whose documents it restored; null: it was not a rollback. */
  readonly rollbackOf: number | null;
  /** False for the oldest kept revision: its predecessor is no longer known. */
  readonly areChangesKnown: boolean;
  readonly changeCount: number;
  /** At most the first 100 in the list; all of them under `/v1/history/:revision`. */
  readonly changes: readonly ResourceChange[];
};

/** `GET /v1/history/:revision`: one revision with the documents that it changed. */
export type HistoryDetail = HistoryItem & { readonly documents: readonly DocumentDiff[] };

/** A document before and after one revision; null: it did not exist. */
export type DocumentDiff = ResourceChange & { readonly before: Resource | null; readonly after: Resource | null };

/** `POST /v1/rollback`, body: `{ revision: number, dryRun?: boolean, message?: string }`. Status 422 as for apply. */
export type RollbackAnswer = ApplyAnswer & {
  /** The revision whose documents are in force again. */
  readonly rollbackOf: number;
};

/**
 * `POST /v1/advance`, body: `{ revision?: number, sequence?: number, dryRun?: boolean, message?: string }`: gives rules and
 * registry numbers above those that agents hold, after an older backup was restored.
 */
export type AdvanceAnswer = {
  readonly revision: number;
  /** Of the inventory. */
  readonly sequence: number;
  readonly before: MeshPosition;
  readonly dryRun: boolean;
  /** The agents that held more than the controller. */
  readonly ahead: readonly AgentPosition[];
  /** Agents that claim so much more that they were left out. */
  readonly unbelievable: readonly AgentPosition[];
};

/**
 * `GET /v1/rollout[?revision=&inventory=&capture=]`: which agents enforce a revision (default: the current one) and,
 * with `inventory`, also have the registry up to that sequence. With `capture=true` also which workloads no agent
 * captures yet, and of which captured ones connects to ports with `earlyAccept: false` are accepted early; else null.
 */
export type RolloutAnswer = Rollout & {
  readonly uncaptured: Uncaptured | null;
  readonly acceptedEarly: Uncaptured | null;
  /**
   * The captured and served ones of which an agent says that something is wrong, such as a registered address that the namespace
   * lacks. A controller of an older version sends none.
   */
  readonly troubled?: Uncaptured | null;
};
export type { Uncaptured, UncapturedWorkload } from '../fleet/capture-progress.js';
export type { NodeWithoutAgent } from '../fleet/nodes-without-agent.js';
export type { BreakGlassRule } from '../fleet/mesh-warnings.js';
export type { RolloutAgent, RolloutState } from '../fleet/rollout-progress.js';

/** `GET /v1/export`: everything that tools need to work without the controller. */
export type ExportAnswer = {
  readonly revision: number;
  readonly inventorySequence: number;
  readonly snapshot: Snapshot;
  readonly entries: readonly RegistryEntry[];
  /** Names of nodes that an agent has joined for. A controller of an older version sends none. */
  readonly nodesWithAgent?: readonly string[];
  /** All documents as YAML, in an order that does not depend on history. Applied to an empty mesh they give this mesh. */
  readonly resources: string;
};

/** `GET /v1/flows[?sinceMs=&namespace=]`: connections as the agents recorded them, most recently seen first. */
export type FlowsAnswer = {
  /** Both sides of a connection between two workloads report it: one as `outbound`, the other as `inbound`. */
  readonly flows: readonly FlowRecord[];
  /** How many flows exceeded the limit of one answer; those seen longest ago are left out. */
  readonly leftOut: number;
  /** Connections that were aggregated or dropped, because there were too many different ones. */
  readonly notKept: number;
  /** When the oldest flow in memory was first seen; null without flows. */
  readonly oldestMs: number | null;
  /** False while stored flows are still being read or NATS is unavailable. */
  readonly isCurrent: boolean;
  /** Connections that are in no record, because an agent was killed or the store refused them. Absent: an older controller. */
  readonly lost?: number;
  /**
   * By the controller's clock: what ended before it is in the flows, apart from the nodes in `behind`. Null: no agent
   * reports. Absent: an older controller.
   */
  readonly asOfMs?: number | null;
  /** Nodes whose newest connections are missing, and up to when they are known; null: none of this controller's lifetime. */
  readonly behind?: readonly { readonly node: string; readonly asOfMs: number | null }[];
};

/** In every answer while a root is prepared: the SHA-256 of its public key, hex. */
export const nextRootHeader = 'culvert-next-root';

/** `POST /v1/tokens`, body: `{ node, ttlMs? }`. Only this answer contains the token. */
export type TokenAnswer = {
  readonly token: string;
  readonly id: string;
  readonly node: string;
  readonly expiresAtMs: number;
  /** The address that hosts join at. Absent: a controller of an earlier version. */
  readonly controller?: string;
};

/** One element of `GET /v1/tokens`, newest first. `DELETE /v1/tokens/:id` revokes one. Times are RFC 3339. */
export type TokenItem = {
  readonly id: string;
  readonly node: string;
  readonly state: TokenState;
  readonly createdBy: string;
  readonly createdAt: string;
  readonly expiresAt: string;
  readonly usedAt: string | null;
};

/** `DELETE /v1/nodes/:node`. */
export type NodeRemovedAnswer = Eviction & {
  readonly node: string;
  /** Workloads that are still registered on the node, as `namespace/name`. */
  readonly workloads: readonly string[];
};

/** One element of `GET /v1/users`. Times are RFC 3339; `expiresAt` null: never. */
export type UserAnswer = {
  readonly name: string;
  readonly role: Role;
  /** Which documents an editor may change; null: no limit. Absent: a controller of an earlier version. */
  readonly namespaces?: readonly string[] | null;
  readonly tiers?: readonly Tier[] | null;
  readonly breakGlass?: boolean;
  /** Absent: a controller of an earlier version, which has no such right. */
  readonly deleteWorkloads?: boolean;
  readonly createdBy: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
};

/**
 * `POST /v1/users`, body: `{ name, role, ttlMs?, namespaces?, tiers?, breakGlass?, deleteWorkloads? }`. Only this answer has
 * the token; `DELETE /v1/users/:name` revokes it, and `POST /v1/users/:name/token`, body: `{ ttlMs? }`, replaces it, with the
 * same answer.
 */
export type UserCreatedAnswer = UserAnswer & { readonly token: string };

/** A request, with how it ended. `result` is `begun` when it did not. */
export type AuditItem = Omit<AuditEntry, 'prev' | 'of'>;

/** `GET /v1/audit-log[?sinceMs=&user=&action=&limit=]`: the newest requests, oldest first. */
export type AuditList = {
  readonly requests: readonly AuditItem[];
  /** Older ones that the limit left out. */
  readonly leftOut: number;
  /** Lines that are damaged: verify the log. */
  readonly unreadable: number;
  readonly head: ChainHead;
};

/** `GET /v1/audit-log/lines?after=`: the lines as they are on disk, behind the one with this number; 0: from the first. */
export type AuditLines = {
  readonly lines: readonly string[];
  /** What to ask for next; null: these are the last. */
  readonly next: number | null;
};

/** `GET /readyz`: status 200 when nothing is pending, else 503. */
export type ReadyAnswer = {
  readonly isReady: boolean;
  readonly pending: readonly PendingTask[];
  /** Of a controller that stands by for another: what it waits for. */
  readonly standsBy?: string;
};
export type PendingTask = { readonly name: string; readonly detail: string };
