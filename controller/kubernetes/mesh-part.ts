import type { ResourceKind } from '../resources/kinds/resource.js';
import { gatewayApiGroup } from '../resources/kinds/gateway-api.js';
import { isMapping } from '../resources/parse/is-mapping.js';

/**
 * What of an object of others is said to a mesh; null: nothing, it is for gateways, which others serve. A TCPRoute may have
 * Gateways among its parents, and a VirtualService names them in `spec.gateways`. Whatever else is in it stays, to be judged.
 * Source: Gateway API, `ParentReference`; Istio, VirtualService.
 */
export function meshPart(kind: ResourceKind, object: unknown): unknown {
  const partOf = partsOf[kind];
  if (partOf === undefined || !isMapping(object) || !isMapping(object['spec'])) return object;
  const spec = partOf(object['spec']);
  return spec === null ? null : { ...object, spec };
}

const partsOf: Partial<Record<ResourceKind, (spec: Mapping) => Mapping | null>> = {
  TCPRoute: routeOfMesh,
  VirtualService: ofMesh,
};

function routeOfMesh(spec: Mapping): Mapping | null {
  const { parentRefs } = spec;
  if (!Array.isArray(parentRefs)) return spec;
  // Without a group the parent is of this one.
  const others = parentRefs.filter((ref) => !isMapping(ref) || (ref['group'] ?? gatewayApiGroup) !== gatewayApiGroup);
  return others.length === 0 && parentRefs.length > 0 ? null : { ...spec, parentRefs: others };
}

function ofMesh(spec: Mapping): Mapping | null {
  const { gateways } = spec;
  if (!Array.isArray(gateways) || gateways.length === 0) return spec;
  return gateways.includes('mesh') ? { ...spec, gateways: ['mesh'] } : null;
}

type Mapping = Readonly<Record<string, unknown>>;
