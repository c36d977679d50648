import type { Problem } from '../../shared/model/problem.js';
import type { Resource } from '../../shared/model/resource.js';
import type { Connection, Decision } from '../../shared/policy/connection.js';
import type { AgentStatus } from '../registry/agent-registry.js';
import type { ResourceChange } from '../store/plan-change.js';

/** Bodies of the HTTP API, as the routes answer them and the `culvert` command reads them. Errors: `ErrorBody`. */

/** `POST /v1/apply`, body: `{ documents: string, dryRun?: boolean }`. */
export type ApplyAnswer = {
  /** The revision that holds now; unchanged by a dry run. */
  readonly revision: number;
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
  readonly appliedAt: string;
  readonly appliedBy: string;
  readonly agents: readonly AgentStatus[];
};

/** `POST /v1/tokens`, body: `{ node, ttlMs? }`. The token is shown this once. */
export type TokenAnswer = { readonly token: string; readonly node: string; readonly expiresAtMs: number };

/** `GET /readyz`: status 200 when nothing is pending, else 503. */
export type ReadyAnswer = { readonly isReady: boolean; readonly pending: readonly PendingTask[] };
export type PendingTask = { readonly name: string; readonly detail: string };
