import { isPortName } from '../../../shared/policy/prepared/prepared-rule.js';
import type { PortRange, RulePort } from '../../../shared/policy/snapshot.js';

/** An empty `ports` is every port. */
export type CommonPorts = {
  readonly ports: readonly RulePort[];
  /** Both match some port of a destination without named ports. */
  readonly hasNumber: boolean;
};

/**
 * The ports that both match. A name is any port of a workload that gives it to one, but no port has two names. Undefined:
 * no port is in both.
 */
export function commonPorts(a: readonly RulePort[], b: readonly RulePort[]): CommonPorts | undefined {
  if (a.length === 0 || b.length === 0) {
    const ports = a.length === 0 ? b : a;
    return { ports, hasNumber: ports.length === 0 || !ports.every(isPortName) };
  }
  const ranges: PortRange[] = [];
  const names: string[] = [];
  for (const left of a) {
    for (const right of b) {
      if (isPortName(left) || isPortName(right)) {
        if (left === right || !isPortName(right)) names.push(String(left));
        else if (!isPortName(left)) names.push(right);
        continue;
      }
      const [first, last] = [Math.max(left[0], right[0]), Math.min(left[1], right[1])];
      if (first <= last) ranges.push([first, last]);
    }
  }
  const ports = [...ranges, ...names];
  return ports.length === 0 ? undefined : { ports, hasNumber: ranges.length > 0 };
}
