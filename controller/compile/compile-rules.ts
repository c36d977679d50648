import { assertNever } from '../../shared/assert-never.js';
import { atOnce } from '../../shared/in-turns.js';
import { parseInstant } from '../resources/kinds/instant.js';
import { parseOnChange } from '../resources/kinds/on-change.js';
import type { ProblemList } from '../resources/parse/problem-list.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { SegmentationRule } from '../resources/kinds/segmentation-rule.js';
import { mergeRulePorts } from './merge-ports.js';
import { SegmentExpansion } from './segment-expansion.js';
import { plainRule, tiers, type CompiledRule, type CompiledSegment } from '../../shared/policy/snapshot.js';

export type CompiledRules = {
  /** In evaluation order: tier, priority, name. */
  readonly rules: readonly CompiledRule[];
  /** Those that the rules refer to, each after those that it names. */
  readonly segments: readonly CompiledSegment[];
};

/**
 * Compiles SegmentationRules and the segments that they name. Rules of mode `off` are checked and left out. Errors go to
 * `problems`; do not use a result with errors.
 */
export function compileRules(resources: readonly Resource[], problems: ProblemList): CompiledRules {
  return atOnce(compilingRules(resources, problems));
}

/** {@link compileRules} in steps, a rule each. */
export function* compilingRules(resources: readonly Resource[], problems: ProblemList): Generator<void, CompiledRules> {
  const expansion = new SegmentExpansion({ resources, problems });
  const basis = basisOf(resources);
  const rules: CompiledRule[] = [];
  for (const resource of resources) {
    if (resource.kind !== 'SegmentationRule') continue;
    const known = compiled.get(resource);
    if (known !== undefined && (known.basis === null || known.basis === basis)) {
      if (known.rule !== undefined) rules.push(known.rule);
      continue;
    }
    const errorsBefore = problems.errors.length;
    const rule = compileRule(resource, expansion, problems);
    if (rule !== undefined) rules.push(rule);
    if (problems.errors.length > errorsBefore) continue;
    compiled.set(resource, { rule, basis: standsAlone(resource) ? null : basis });
    yield;
  }
  const segments = expansion.segments(rules.flatMap(({ from, to }) => [from, to]));
  return { rules: rules.sort(inOrderOfEvaluation), segments };
}

/**
 * Compiled rules by document, so that changing one rule among thousands compiles one, and the others stay the same
 * objects.
 */
const compiled = new WeakMap<
  SegmentationRule,
  { readonly rule: CompiledRule | undefined; readonly basis: Basis | null }
>();

/** The resources that rules are expanded from. Equal sets, in any order, are the same object. */
type Basis = ReadonlySet<Resource>;
let lastBasis: Basis = new Set();

function basisOf(resources: readonly Resource[]): Basis {
  const basis = resources.filter(({ kind }) => kind === 'Segment' || kind === 'Service' || kind === 'ServiceEntry');
  const isSame = basis.length === lastBasis.size && basis.every((resource) => lastBasis.has(resource));
  if (!isSame) lastBasis = new Set(basis);
  return lastBasis;
}

function standsAlone({ spec }: SegmentationRule): boolean {
  return [...(spec.from ?? []), ...(spec.to ?? [])].every(
    ({ segment, service }) => segment === undefined && service === undefined,
  );
}

function compileRule(
  rule: SegmentationRule,
  expansion: SegmentExpansion,
  problems: ProblemList,
): CompiledRule | undefined {
  const { tier, priority, action, mode, ports, onChange, rollout, validFrom, expiresAt, owner, reason } = rule.spec;
  const from = expansion.expand(rule.spec.from ?? [], { resource: rule, path: ['spec', 'from'] });
  const to = expansion.expand(rule.spec.to ?? [], { resource: rule, path: ['spec', 'to'] });
  if (expansion.hasUnauthenticated(to)) {
    const message = 'contains unauthenticated, which is about who dials';
    problems.error({ resource: rule, path: ['spec', 'to'] }, message, 'write it in from, or in a segment for from');
  }
  switch (mode) {
    case 'off':
      return undefined;
    case 'enforce':
    case 'audit':
      return {
        name: rule.metadata.name,
        tier,
        priority,
        action,
        mode,
        from,
        to,
        ports: mergeRulePorts(ports ?? []),
        onChange: parseOnChange(onChange ?? '') ?? plainRule.onChange,
        rollout: rollout ?? plainRule.rollout,
        validFromMs: instantOf(validFrom),
        expiresAtMs: instantOf(expiresAt),
        ...(owner === undefined ? {} : { owner }),
        ...(reason === undefined ? {} : { reason }),
      };
    default:
      return assertNever(mode);
  }
}

function instantOf(text: string | undefined): number | null {
  return text === undefined ? null : (parseInstant(text) ?? null);
}

function inOrderOfEvaluation(a: CompiledRule, b: CompiledRule): number {
  const byTier = tiers.indexOf(a.tier) - tiers.indexOf(b.tier);
  if (byTier !== 0) return byTier;
  return a.priority === b.priority ? (a.name < b.name ? -1 : 1) : a.priority - b.priority;
}
