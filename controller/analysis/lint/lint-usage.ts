import { isPortName } from '../../../shared/policy/prepared/prepared-rule.js';
import type { Clock } from '../../../shared/policy/connection.js';
import type { CompiledRule, RulePeer, RulePort } from '../../../shared/policy/snapshot.js';
import type { FlowRecord } from '../../../shared/wire/flows.js';
import type { LintFinding } from './lint-finding.js';
import { workloadParty, type MeshParty } from '../pairs/mesh-party.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { Selectors, type Side } from '../pairs/selectors.js';

/** A rule is broad when it allows this many times what was recorded. */
const broadFactor = 4;

/** Finds rules that never matched a recorded connection, and rules that allow much more than is used. */
export function lintUsage(
  input: RuleSet & { readonly clock: Clock; readonly flows: readonly FlowRecord[] },
): LintFinding[] {
  const { snapshot, entries, clock, flows } = input;
  const ends = entries.flatMap((entry) => {
    const [ip] = entry.kind === 'workload' ? entry.addresses : [];
    return entry.kind === 'workload' && ip !== undefined ? [workloadParty(entry, ip)] : [];
  });
  const counts = new SelectedCounts({ ends, selectors: new Selectors({ snapshot, clock }) });
  const byRule = new Map<string, FlowRecord[]>();
  for (const flow of flows) {
    for (const name of [flow.rule, ...flow.audited]) {
      const others = byRule.get(name);
      if (others === undefined) byRule.set(name, [flow]);
      else others.push(flow);
    }
  }
  return snapshot.rules.flatMap((rule): LintFinding[] => {
    // Records do not show what an audited rule would allow or pass.
    const isRecorded = rule.mode === 'enforce' ? rule.action !== 'pass' : rule.action === 'deny';
    const seen = byRule.get(`SegmentationRule/${rule.name}`) ?? [];
    if (seen.length > 0) {
      // What one agent alone tells keeps no rule from being called broad.
      const proved = seen.filter(({ toldBy }) => toldBy !== 'one');
      return rule.action === 'allow' && proved.length > 0 ? broad(rule, proved, counts) : [];
    }
    if (!isRecorded) return [];
    const message = 'decided or audited no recorded connection';
    const hint = 'delete it if the records cover everything that it is for';
    return [
      {
        kind: 'never matched',
        severity: 'info',
        resource: `SegmentationRule/${rule.name}`,
        other: null,
        message,
        hint,
      },
    ];
  });
}

function broad(rule: CompiledRule, seen: readonly FlowRecord[], counts: SelectedCounts): LintFinding[] {
  const names = (side: 'source' | 'destination'): number =>
    new Set(seen.map((flow) => flow[side].workload ?? flow[side].cidr ?? flow[side].identity)).size;
  const parts = [
    { what: 'sources', allowed: counts.of(rule.from, 'source'), used: names('source') },
    {
      what: 'destinations',
      allowed: counts.of(rule.to, 'destination'),
      used: names('destination'),
    },
    { what: 'ports', allowed: portCount(rule.ports), used: new Set(seen.map(({ port }) => port)).size },
  ].filter(({ allowed, used }) => allowed >= used * broadFactor);
  if (parts.length === 0) return [];
  const text = parts.map(({ what, allowed, used }) => `${allowed} ${what} of which ${used} were seen`).join(', ');
  const hint = 'compare it with what `culvert learn` proposes';
  return [
    {
      kind: 'broad',
      severity: 'info',
      resource: `SegmentationRule/${rule.name}`,
      other: null,
      message: `allows ${text}`,
      hint,
    },
  ];
}

/** A name is one port of each workload. */
function portCount(ports: readonly RulePort[]): number {
  if (ports.length === 0) return 65_535;
  return ports.reduce((sum, port) => sum + (isPortName(port) ? 1 : port[1] - port[0] + 1), 0);
}

/** How many workloads peers stand for, asked once for peers that are written alike. */
class SelectedCounts {
  readonly #ends: readonly MeshParty[];
  readonly #selectors: Selectors;
  readonly #known = new Map<string, number>();

  constructor(init: { readonly ends: readonly MeshParty[]; readonly selectors: Selectors }) {
    this.#ends = init.ends;
    this.#selectors = init.selectors;
  }

  /** All of them when the list is empty. */
  of(peers: readonly RulePeer[], side: Side): number {
    const selector = this.#selectors.peers(side, peers, false);
    const key = selector?.key ?? '';
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const selected = this.#ends.filter((end) => selector === null || selector.selects(end));
    const count = new Set(selected.map(({ name }) => name)).size;
    this.#known.set(key, count);
    return count;
  }
}
