import type { Endpoint } from '../../../shared/routing/destination.js';

/** Most services have so few endpoints that a copy of the list costs less than keeping the places of those that were drawn. */
const fewEndpoints = 64;

type Draw = {
  readonly count: number;
  /** From 0 to just below 1. */
  readonly random: () => number;
  /** Which of them may be drawn; null: all. */
  readonly isUsable: ((endpoint: Endpoint) => boolean) | null;
};

/**
 * `count` different endpoints that are usable, or all if there are fewer, each order as likely (Fisher and Yates). Costs as much
 * as `count` where there are many endpoints and most of them are usable.
 */
export function drawn(endpoints: readonly Endpoint[], { count, random, isUsable }: Draw): Endpoint[] {
  if (endpoints.length > fewEndpoints && count <= fewEndpoints / 8) {
    return drawnOfMany(endpoints, { count, random, isUsable });
  }
  const rest = isUsable === null ? [...endpoints] : endpoints.filter(isUsable);
  const wanted = Math.min(count, rest.length);
  for (let at = 0; at < wanted; at++) {
    const other = at + Math.floor(random() * (rest.length - at));
    const [a, b] = [rest[at], rest[other]];
    if (a === undefined || b === undefined) break;
    rest[at] = b;
    rest[other] = a;
  }
  return rest.slice(0, wanted);
}

/** Draws again what was drawn before or is not usable, which is rare among many. */
function drawnOfMany(endpoints: readonly Endpoint[], { count, random, isUsable }: Draw): Endpoint[] {
  const found = new Set<Endpoint>();
  for (let draws = 0; found.size < count && draws < 16 * count; draws++) {
    const endpoint = endpoints[Math.floor(random() * endpoints.length)];
    if (endpoint !== undefined && isUsable?.(endpoint) !== false) found.add(endpoint);
  }
  if (found.size === count) return [...found];
  // A source of chance that repeats itself must not keep a connection waiting, nor one that meets what is not usable.
  const rest = endpoints.filter((endpoint) => !found.has(endpoint) && isUsable?.(endpoint) !== false);
  while (found.size < count && rest.length > 0) {
    const at = Math.floor(random() * rest.length);
    const endpoint = rest[at];
    const last = rest.pop();
    if (endpoint === undefined || last === undefined) break;
    if (at < rest.length) rest[at] = last;
    found.add(endpoint);
  }
  return [...found];
}
