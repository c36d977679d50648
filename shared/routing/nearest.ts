import type { Locality, RegistryService } from './registry-entry.js';

/**
 * Those that a client at `from` gets, in the order in which they come. A client whose place is not known gets all, and so does
 * one for which nothing is nearer than the rest. Source: "Service Internal Traffic Policy" and "Traffic distribution" in the
 * documentation of Kubernetes.
 */
export function nearestOf<C extends { readonly locality: Locality | undefined }>(
  candidates: readonly C[],
  o: { readonly from: Locality | null; readonly distribution: RegistryService['distribution'] },
): readonly C[] {
  const { from, distribution } = o;
  if (from === null || distribution === undefined) return candidates;
  const onHost = (): C[] => candidates.filter(({ locality }) => locality?.host === from.host);
  const inZone = (): C[] =>
    from.zone === undefined ? [] : candidates.filter(({ locality }) => locality?.zone === from.zone);
  switch (distribution) {
    case 'same-host':
      return onHost();
    case 'prefer-same-host':
      return firstFilled(onHost(), inZone(), candidates);
    case 'prefer-same-zone':
      return firstFilled(inZone(), candidates);
  }
}

/** The zone of a client without its host, which no endpoint has. The same object for the same client: lists are kept by it. */
const zonesOf = new WeakMap<Locality, Locality>();
const everywhere: readonly (Locality | null)[] = [null];
const nowhere: readonly (Locality | null)[] = [];

/**
 * Where a client at `from` looks in turn when what {@link nearestOf} gives it cannot be used, although it serves: its zone, then
 * everywhere (null). Empty: it has all already, or must not leave its host.
 */
export function widerPlaces(
  from: Locality | null,
  distribution: RegistryService['distribution'],
): readonly (Locality | null)[] {
  if (from === null || distribution === undefined || distribution === 'same-host') return nowhere;
  const { zone } = from;
  if (distribution === 'prefer-same-zone' || zone === undefined) return everywhere;
  const known = zonesOf.get(from) ?? { host: '', zone };
  zonesOf.set(from, known);
  return [known, null];
}

function firstFilled<C>(...lists: readonly (readonly C[])[]): readonly C[] {
  return lists.find((list) => list.length > 0) ?? [];
}
