import { parsePortRange } from '../resources/kinds/segmentation-rule.js';
import type { PortRange } from '../../shared/policy/snapshot.js';

/** Parses ports and ranges, sorts them and merges overlaps. Invalid entries are left out. */
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
