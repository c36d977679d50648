import type { CompiledAuthorizationRule, PortRange } from '../snapshot.js';

const lastPort = 65_535;
const everyPort: readonly PortRange[] = [[0, lastPort]];

/**
 * The ports for which the operations and conditions of a rule hold, as rules list them: an empty list is every port. Null:
 * no port.
 */
export function portsOfRule({ to, when = [] }: CompiledAuthorizationRule): readonly PortRange[] | null {
  let ranges: readonly PortRange[] =
    to.length === 0
      ? everyPort
      : to.flatMap(({ ports, notPorts = [] }) => without(ports === undefined ? everyPort : single(ports), notPorts));
  for (const { key, values, notValues } of when) {
    if (key !== 'destination.port') continue;
    if (values !== undefined) ranges = single(numbersOf(values).filter((port) => isIn(ranges, port)));
    if (notValues !== undefined) ranges = without(ranges, numbersOf(notValues));
  }
  if (ranges.some(([first, last]) => first === 0 && last === lastPort)) return [];
  return ranges.length === 0 ? null : ranges;
}

function single(ports: readonly number[]): PortRange[] {
  return [...new Set(ports)].map((port) => [port, port]);
}

function without(ranges: readonly PortRange[], ports: readonly number[]): PortRange[] {
  const holes = [...new Set(ports)].sort((a, b) => a - b);
  return ranges.flatMap(([first, last]) => {
    const left: PortRange[] = [];
    let start = first;
    for (const hole of first === last ? holes.filter((each) => each === first) : holes) {
      if (hole < start || hole > last) continue;
      if (hole > start) left.push([start, hole - 1]);
      start = hole + 1;
    }
    return start > last ? left : [...left, [start, last]];
  });
}

function isIn(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some(([first, last]) => port >= first && port <= last);
}

/** Conditions compare texts: `080` is no port. */
function numbersOf(values: readonly string[]): number[] {
  return values.map(Number).filter((port, index) => Number.isInteger(port) && String(port) === values[index]);
}
