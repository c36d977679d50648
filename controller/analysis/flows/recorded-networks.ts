import { parseCidr } from '../../../shared/address.js';

const maxNamed = 3;

/**
 * Says which of these ends of recorded connections are networks where single addresses were seen, because records keep no
 * address outside the mesh (`addressClass` in shared/wire/flows.ts). Null: none is.
 */
export function networksNote(ends: Iterable<string>): string | null {
  const networks = [...new Set(ends)].filter(isNetwork).sort();
  if (networks.length === 0) return null;
  const more = networks.length - maxNamed;
  const named = `${networks.slice(0, maxNamed).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  return `${named}: flow records keep networks, not addresses`;
}

function isNetwork(end: string): boolean {
  return end.includes('/') && parseCidr(end) !== undefined && !/\/(32|128)$/.test(end);
}
