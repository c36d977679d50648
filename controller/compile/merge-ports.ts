import { parsePortRange } from '../resources/kinds/segmentation-rule.js';
import type { PortRange, RulePort } from '../../shared/policy/snapshot.js';

/** {@link mergePorts} of what rules write: the names come after the ranges, each once. */
export function mergeRulePorts(ports: readonly (number | string)[]): RulePort[] {
  const names = ports.filter((port) => typeof port === 'string' && parsePortRange(port) === undefined);
  return [...mergePorts(ports), ...new Set(names.map(String).sort())];
}

/** Parses ports and ranges, sorts them and merges overlaps. Other entries are left out. */
export function mergePorts(ports: readonly (number | string)[]): PortRange[] {
  const ranges = ports.map(parsePortRange).filter((range) => range !== undefined);
  const merged: PortRange[] = [];
  for (const [first, last] of ranges.sort((a, b) => a[0] - b[0])) {
    const previous = merged.at(-1);
    if (previous !== undefined && first <= previous[1] + 1) {
      merged[merged.length - 1] = [previous[0], Math.max(previous[1], last)];
    } else {
      merged.push([first, last]);
    }
  }
  return merged;
}
