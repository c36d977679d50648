import { isBreakGlass } from '../resources/kinds/break-glass.js';
import type { Problem } from '../resources/kinds/problem.js';
import { validateSet } from '../compile/check/validate-set.js';
import type { CompiledRule } from '../../shared/policy/snapshot.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import type { Inventory } from '../inventory/inventory.js';
import { registeredServices } from '../inventory/registered-services.js';
import { failingTests, hasTests } from '../store/check-tests.js';
import type { ResourceStore } from '../store/resource-store.js';
import { resourcesOf } from '../release/committed-state.js';

const expiringWithinMs = 7 * 86_400_000;
/** How long test results are reused: they depend on the time, and the status may be polled several times a second. */
const testedForMs = 10_000;

/** An emergency rule: it is marked as break glass and expires by itself. */
export type BreakGlassRule = {
  readonly name: string;
  /** RFC 3339. */
  readonly expiresAt: string;
  /** By the controller's clock. */
  readonly leftMs: number;
  readonly reason: string | null;
  readonly owner: string | null;
  readonly appliedBy: string;
};

/** The emergency rules in force now, soonest expiry first. */
export function breakGlassRules({ state, snapshot }: CompiledRevision, nowMs: number): BreakGlassRule[] {
  const expiring = snapshot.rules.filter(({ expiresAtMs }) => expiresAtMs !== null && expiresAtMs > nowMs);
  const found = expiring.flatMap(({ name, expiresAtMs, reason, owner }): BreakGlassRule[] => {
    const stored = state.resources.get(`SegmentationRule.-.${name}`);
    if (stored === undefined || expiresAtMs === null || !isBreakGlass(stored.resource)) return [];
    return [
      {
        name,
        expiresAt: new Date(expiresAtMs).toISOString(),
        leftMs: expiresAtMs - nowMs,
        reason: reason ?? null,
        owner: owner ?? null,
        appliedBy: stored.appliedBy,
      },
    ];
  });
  return found.sort((a, b) => a.leftMs - b.leftMs);
}

/** Checking everything again takes at most this share of the time. */
const shareOfTime = 1 / 20;

/**
 * Warnings about the revision in force and the registry. Caches its findings, since most of them change only with these;
 * the registry may change many times a second.
 */
export class MeshWarnings {
  #release: CompiledRevision | null = null;
  #sequence = 0;
  #references: readonly Problem[] = [];
  #tests: readonly Problem[] = [];
  #lookedAt = Number.NEGATIVE_INFINITY;
  #tookMs = 0;
  #testedAtMs = 0;

  of({ release, inventory }: Pick<ResourceStore, 'release' | 'inventory'>, nowMs: number): Problem[] {
    const isNew = release !== this.#release || (inventory.sequence !== this.#sequence && this.#mayLook());
    if (isNew) {
      const startedAt = performance.now();
      this.#release = release;
      this.#sequence = inventory.sequence;
      this.#references = [...validateRegistered(release, inventory, nowMs), ...conflictsOf(inventory)];
      this.#lookedAt = performance.now();
      this.#tookMs = this.#lookedAt - startedAt;
    }
    if (isNew || nowMs - this.#testedAtMs >= testedForMs || nowMs < this.#testedAtMs) {
      this.#testedAtMs = nowMs;
      this.#tests = hasTests(release) ? failingTests({ release, entries: inventory.entries }, nowMs) : [];
    }
    const { resources } = release.state;
    const expiring = release.snapshot.rules.flatMap((rule) => {
      const stored = resources.get(`SegmentationRule.-.${rule.name}`);
      const isOver = rule.expiresAtMs !== null && rule.expiresAtMs <= nowMs;
      // It was meant to end by itself, so there is nothing to do.
      return isOver && stored !== undefined && isBreakGlass(stored.resource) ? [] : expiry(rule, nowMs);
    });
    return [...this.#tests, ...expiring, ...this.#references].map((found) => ({ ...found, severity: 'warning' }));
  }

  #mayLook(): boolean {
    return performance.now() - this.#lookedAt >= this.#tookMs / shareOfTime;
  }
}

function validateRegistered(release: CompiledRevision, { registry }: Inventory, nowMs: number): Problem[] {
  const resources = [...resourcesOf(release.state), ...registeredServices(registry.published.values())];
  return validateSet(resources, new Map(), {
    nowMs,
    trustDomain: release.snapshot.trustDomain,
    among: (check) => check(registry.registered),
  });
}

function conflictsOf({ registry }: Inventory): Problem[] {
  return registry.conflicts.map(({ claim, winner, loser }) => ({
    severity: 'warning',
    fileName: null,
    document: null,
    line: null,
    resource: winner.key,
    path: '',
    message: `${claim} of ${winner.source} is claimed by ${loser.key} of ${loser.source} too, which does not get it`,
    hint: 'remove it from one of the two',
  }));
}

function expiry({ name, expiresAtMs }: CompiledRule, nowMs: number): Problem[] {
  if (expiresAtMs === null || expiresAtMs - nowMs > expiringWithinMs) return [];
  const at = new Date(expiresAtMs).toISOString();
  return [
    {
      severity: 'warning',
      fileName: null,
      document: null,
      line: null,
      resource: `SegmentationRule/${name}`,
      path: 'spec.expiresAt',
      message: expiresAtMs <= nowMs ? `expired at ${at} and no longer matches anything` : `expires at ${at}`,
      hint: expiresAtMs <= nowMs ? 'delete it, or set a later time' : 'set a later time if it is still needed',
    },
  ];
}
