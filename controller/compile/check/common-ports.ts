import { isPortName, rangesOf } from '../../../shared/policy/prepared/prepared-rule.js';
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
  const [numbersA, numbersB] = [rangesOf(a), rangesOf(b)];
  const ranges = commonRanges(numbersA, numbersB);
  const [namesA, namesB] = [a.filter(isPortName), b.filter(isPortName)];
  const others = new Set(namesB);
  // A number of one rule may have any name of the other.
  const names = new Set(numbersA.length > 0 ? namesB : []);
  for (const name of namesA) if (numbersB.length > 0 || others.has(name)) names.add(name);
  const ports = [...ranges, ...names];
  return ports.length === 0 ? undefined : { ports, hasNumber: ranges.length > 0 };
}

function commonRanges(unsortedA: readonly PortRange[], unsortedB: readonly PortRange[]): PortRange[] {
  const [a, b] = [unsortedA, unsortedB].map((ranges) => [...ranges].sort((x, y) => x[0] - y[0])) as [
    PortRange[],
    PortRange[],
  ];
  const common: PortRange[] = [];
  let at = 0;
  for (const [first, last] of a) {
    for (let right = b[at]; right !== undefined && right[0] <= last; right = b[at]) {
      if (right[1] >= first) common.push([Math.max(first, right[0]), Math.min(last, right[1])]);
      // The range may go on into the next one of `a`.
      if (right[1] > last) break;
      at++;
    }
  }
  return common;
}
