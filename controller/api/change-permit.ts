import { requireScope } from '../access/role.js';
import { isBreakGlass } from '../resources/kinds/break-glass.js';
import { formatResourceId, resourceId } from '../resources/kinds/resource-key.js';
import type { ChangeOutcome } from '../store/change-outcome.js';
import type { Permit } from '../store/changed-documents.js';
import type { ResourceStore } from '../store/resource-store.js';
import type { ApiRequest } from './router.js';

/** Documents that a line of the audit log names. */
const maxNamed = 50;

/** Holds the sender of a request to its scope, and notes for the audit log when glass is broken. */
export function permitOf(request: ApiRequest, store: ResourceStore, action: 'apply' | 'delete' | 'rollback'): Permit {
  const { principal, note } = request;
  return (changes, nowMs) => {
    const marked = changes
      .flatMap(({ before, after }) => [before, after])
      .find((one) => one !== null && isBreakGlass(one));
    if (marked !== null && marked !== undefined && action !== 'rollback') {
      note({ action: `${action}.break-glass`, target: formatResourceId(resourceId(marked)) });
    }
    const { rootNamespace } = store.release.snapshot.mesh;
    if (principal !== undefined) requireScope(principal, changes, { rootNamespace, nowMs });
  };
}

/** Notes for the audit log what a change did. */
export function noteOutcome({ note }: ApiRequest, outcome: ChangeOutcome | undefined, dryRun: boolean): void {
  if (outcome === undefined) return;
  if (!outcome.ok) return note({ detail: { dryRun } });
  const changed = outcome.changes.filter(({ change }) => change !== 'unchanged');
  note({
    detail: {
      dryRun,
      revision: outcome.revision,
      changed: changed.slice(0, maxNamed).map((change) => `${formatResourceId(change)} ${change.change}`),
      ...(changed.length > maxNamed ? { more: changed.length - maxNamed } : {}),
    },
  });
}
