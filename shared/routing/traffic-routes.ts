import { cidrContains, ipBytes, parseCidr, type HostPort } from '../address.js';
import type { CompiledVirtualService, RouteMatch, WeightedSubset } from '../policy/traffic-documents.js';

/** What a route may ask of a connection. */
export type RouteFacts = {
  readonly client: { readonly namespace: string; readonly labels: Readonly<Record<string, string>> };
  readonly dialled: HostPort;
};

/** A route of a document, counted from 0, and what it shares connections among. */
export type RouteFound = {
  readonly document: CompiledVirtualService;
  readonly index: number;
  readonly choices: readonly WeightedSubset[];
};

/** The first route of a document with a match for the connection; one without matches is for all. Null: none is. */
export function firstRoute(document: CompiledVirtualService, facts: RouteFacts): RouteFound | null {
  const index = document.routes.findIndex(
    ({ matches }) => matches.length === 0 || matches.some((match) => isMatch(match, facts)),
  );
  const route = document.routes[index];
  return route === undefined ? null : { document, index, choices: route.choices };
}

/** All that a match names must be so. */
function isMatch(match: RouteMatch, { client, dialled }: RouteFacts): boolean {
  const { port, sourceNamespace, sourceLabels = {}, destinationSubnets } = match;
  if (port !== undefined && port !== dialled.port) return false;
  if (sourceNamespace !== undefined && sourceNamespace !== client.namespace) return false;
  for (const label in sourceLabels) if (client.labels[label] !== sourceLabels[label]) return false;
  return destinationSubnets === undefined || isWithin(destinationSubnets, dialled);
}

function isWithin(subnets: readonly string[], { ip }: HostPort): boolean {
  const bytes = ipBytes(ip);
  return subnets.some((text) => {
    const cidr = parseCidr(text);
    return cidr !== undefined && cidrContains(cidr, bytes);
  });
}

/** The place of one of the choices, by their weights, which do not add up to 0. `random`: from 0 to just below 1. */
export function drawnChoice(choices: readonly WeightedSubset[], random: () => number): number {
  if (choices.length < 2) return 0;
  let sum = 0;
  for (const { weight } of choices) sum += weight;
  let left = random() * sum;
  let last = 0;
  for (let at = 0; at < choices.length; at++) {
    const weight = choices[at]?.weight ?? 0;
    left -= weight;
    if (left < 0) return at;
    if (weight > 0) last = at;
  }
  return last;
}
