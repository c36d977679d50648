import { lintSet } from '../analysis/lint/lint-set.js';
import type { AuditTrail } from '../audit-log/audit-trail.js';
import type { RuleFacts, RuleStore } from '../kubernetes/cluster-rules.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import { resourcesOf } from '../release/committed-state.js';
import type { ResourceStore } from '../store/resource-store.js';
import type { AgentRegistry } from './agent-registry.js';
import { positionOf } from './agents-ahead.js';
import { MeshWarnings } from './mesh-warnings.js';
import { rolloutOf } from './rollout-progress.js';

/** Rules of more than this are not compared with each other: it takes longer than other work should wait. */
const maxLinted = 1000;
const lintEveryMs = 10_000;

/** What the status of a custom resource says of the mesh: who enforces it, and what is suspicious about it. */
export class MeshRuleFacts implements RuleFacts {
  readonly #store: ResourceStore;
  readonly #agents: AgentRegistry;
  readonly #nowMs: () => number;
  readonly #mesh = new MeshWarnings();
  #found: ReadonlyMap<string, readonly string[]> = new Map();
  #release: CompiledRevision | null = null;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(init: { readonly store: ResourceStore; readonly agents: AgentRegistry; readonly nowMs: () => number }) {
    this.#store = init.store;
    this.#agents = init.agents;
    this.#nowMs = init.nowMs;
  }

  /** The revision that each agent enforces with all its workers; null: not known, or an alarm. */
  enforcedRevisions(): readonly (number | null)[] {
    const { agents } = rolloutOf({ revision: 0, sequence: null }, this.#agents.list(positionOf(this.#store)));
    return agents.map(({ state, appliedRevision }) => (state === 'done' ? appliedRevision : null));
  }

  /** By `SegmentationRule/db-only`. */
  warnings(): ReadonlyMap<string, readonly string[]> {
    const nowMs = this.#nowMs();
    const { release } = this.#store;
    if (release === this.#release && nowMs - this.#lookedAtMs < lintEveryMs) return this.#found;
    this.#release = release;
    this.#lookedAtMs = nowMs;
    const found = new Map<string, string[]>();
    const add = (resource: string | null, text: string): void => {
      if (resource === null) return;
      const known = found.get(resource) ?? [];
      if (!known.includes(text)) found.set(resource, [...known, text]);
    };
    for (const { resource, path, message } of this.#mesh.of(this.#store, nowMs)) {
      add(resource, path === '' ? message : `${path}: ${message}`);
    }
    if (release.snapshot.rules.length <= maxLinted) {
      const { snapshot, state } = release;
      const set = { snapshot, entries: this.#store.inventory.entries, resources: resourcesOf(state) };
      for (const { resource, message } of lintSet({ ...set, clock: { nowMs: this.#nowMs } })) add(resource, message);
    }
    this.#found = found;
    return found;
  }
}

/** The store as far as a cluster concerns it. */
export function asRuleStore(store: ResourceStore, trail: Pick<AuditTrail, 'noted'>): RuleStore {
  return {
    get state() {
      return store.release.state;
    },
    get inventorySequence() {
      return store.inventory.sequence;
    },
    takeCluster: async (request) => {
      const before = store.release.state.revision;
      const outcome = await store.takeCluster(request);
      if (request.dryRun !== true && outcome.revision > before)
        trail.noted('cluster.rules', { revision: outcome.revision });
      return outcome;
    },
  };
}
