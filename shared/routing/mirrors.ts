import type { HostPort } from '../address.js';
import type { RouteMirror, WeightedSubset } from '../policy/traffic-documents.js';
import { choiceText } from './steering.js';

/** Where copies go, as a choice of the route that no connection is drawn for. */
export function mirrorChoice({ subset, service, port }: RouteMirror, dialled: Pick<HostPort, 'port'>): WeightedSubset {
  if (service === undefined) return { subset, weight: 0 };
  return { subset, weight: 0, backend: { service, port: port ?? dialled.port } };
}

/** Whether a new connection is copied. `random`: from 0 to just below 1. */
export function isMirrored({ percent }: RouteMirror, random: () => number): boolean {
  return percent > 0 && 100 * random() < percent;
}

/** `shop/web-v2:80`, `subset v2`, `subset v2 of shop/other:80`, or `the service itself`, for people. */
export function mirrorText(mirror: RouteMirror, dialled: Pick<HostPort, 'port'>): string {
  const { subset, backend } = mirrorChoice(mirror, dialled);
  const service = backend === undefined ? null : choiceText({ subset: null, backend });
  if (subset === null) return service ?? 'the service itself';
  return service === null ? `subset ${subset}` : `subset ${subset} of ${service}`;
}
