import { parseCidr, type Cidr } from '../../address.js';
import { CulvertError } from '../../errors.js';
import { NetworkSet } from '../../network-set.js';

/** Labels prepared for comparison. */
export type LabelPairs = readonly (readonly [name: string, value: string])[];

/** Throws CulvertError `SNAPSHOT_INVALID` for a text that is not a CIDR. */
export function readCidr(text: string): Cidr {
  const cidr = parseCidr(text);
  if (cidr !== undefined) return cidr;
  throw new CulvertError({
    code: 'SNAPSHOT_INVALID',
    message: `The rules contain "${text}", which is not a CIDR.`,
    hint: 'run the same version of culvert-agent and culvert-controller',
  });
}

/** `labels` null: not known, so the result is false. */
export function hasLabels(wanted: LabelPairs, labels: Readonly<Record<string, string>> | null): boolean {
  if (labels === null) return false;
  for (const [name, value] of wanted) {
    // A label may be called "constructor".
    if (!Object.hasOwn(labels, name) || labels[name] !== value) return false;
  }
  return true;
}

/** Throws CulvertError `SNAPSHOT_INVALID` for a text that is not a CIDR. */
export function readNetworks(texts: readonly string[]): NetworkSet {
  return new NetworkSet({ networks: texts.map(readCidr) });
}
