import type { Endpoint } from '../../../shared/routing/destination.js';

/** Most services have so few endpoints that a copy of the list costs less than keeping the places of those that were drawn. */
const fewEndpoints = 64;

/**
 * `count` different endpoints, or all if there are fewer, each order as likely (Fisher and Yates). Costs as much as `count`
 * where there are many endpoints. `random`: from 0 to just below 1.
 */
export function drawn(endpoints: readonly Endpoint[], count: number, random: () => number): Endpoint[] {
  const size = endpoints.length;
  const wanted = Math.min(count, size);
  if (size > fewEndpoints && wanted <= fewEndpoints / 8) return drawnOfMany(endpoints, wanted, random);
  const rest = [...endpoints];
  for (let at = 0; at < wanted; at++) {
    const other = at + Math.floor(random() * (size - at));
    const [a, b] = [rest[at], rest[other]];
    if (a === undefined || b === undefined) break;
    rest[at] = b;
    rest[other] = a;
  }
  return rest.slice(0, wanted);
}

/** Draws again what was drawn before, which is rare among many. */
function drawnOfMany(endpoints: readonly Endpoint[], count: number, random: () => number): Endpoint[] {
  const found = new Set<Endpoint>();
  for (let draws = 0; found.size < count && draws < 16 * count; draws++) {
    const endpoint = endpoints[Math.floor(random() * endpoints.length)];
    if (endpoint !== undefined) found.add(endpoint);
  }
  // A source of chance that repeats itself must not keep a connection waiting.
  for (const endpoint of endpoints) {
    if (found.size >= count) break;
    found.add(endpoint);
  }
  return [...found];
}
