import { serviceName, type ServiceName } from '../../../shared/routing/names.js';

type Named = { readonly namespace: string; readonly name: string };

/**
 * The connections that one DestinationRule counts together: for its limits, its budget of retries and the endpoints that it
 * ejects. What two rules say of one service is counted apart, so that a namespace's own rule is for its own clients alone.
 */
export type CountedDestination = {
  /** Names what is counted, and nothing else has the same. */
  readonly key: string;
  /** `shop/web:80`, or `subset v2 of shop/web:80`. */
  readonly of: string;
  /** The DestinationRule, `namespace/name`. */
  readonly rule: string;
  readonly service: ServiceName;
  /** Null: all endpoints of the service. */
  readonly subset: string | null;
  /** The dialled one. */
  readonly port: number;
};

type ByPort = Map<number, CountedDestination>;

const everyEndpoint = {};
/** By rule, service and subset: each connection asks. */
const known = new WeakMap<Named, WeakMap<Named, WeakMap<object, ByPort>>>();

/** Of a port of a service, or of one of its subsets (null: of all its endpoints). The same object for the same objects. */
export function countedDestination(
  rule: Named,
  service: Named,
  { subset, dialledPort }: { readonly subset: { readonly name: string } | null; readonly dialledPort: number },
): CountedDestination {
  const ofRule = known.get(rule) ?? new WeakMap<Named, WeakMap<object, ByPort>>();
  const ofService = ofRule.get(service) ?? new WeakMap<object, ByPort>();
  const byPort: ByPort = ofService.get(subset ?? everyEndpoint) ?? new Map();
  const present = byPort.get(dialledPort);
  if (present !== undefined) return present;
  const name = serviceName(rule);
  const ofName = serviceName(service);
  const of = `${subset === null ? '' : `subset ${subset.name} of `}${ofName}:${dialledPort}`;
  const key = `${name} ${of}`;
  const counted = { key, of, rule: name, service: ofName, subset: subset?.name ?? null, port: dialledPort };
  byPort.set(dialledPort, counted);
  ofService.set(subset ?? everyEndpoint, byPort);
  ofRule.set(service, ofService);
  known.set(rule, ofRule);
  return counted;
}
