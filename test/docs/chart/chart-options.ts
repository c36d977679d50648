import type { InstallOptions, InstallValues } from '../../../controller/install/install-options.js';
import { valueNotes } from '../../../controller/install/install-values.js';
import { flagSlot, textSlot, treeSlot } from '../../../controller/install/slots.js';

/** The options of a chart: a slot in the place of each value. Throws when a value has no note. */
export function chartOptions(values: InstallValues): InstallOptions {
  return slotsOf(values, '') as InstallOptions;
}

function slotsOf(value: unknown, path: string): unknown {
  if (path in valueNotes) {
    if (typeof value === 'string') return textSlot(path);
    return typeof value === 'boolean' ? flagSlot(path) : treeSlot(path);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error(`the value ${path} has no note in controller/install/install-values.ts`);
  }
  const below = (key: string): string => (path === '' ? key : `${path}.${key}`);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, slotsOf(each, below(key))]));
}
