import { isDeepStrictEqual } from 'node:util';
import type { PeerAuthentication } from '../resources/kinds/peer-authentication.js';
import type { Resource } from '../resources/kinds/resource.js';
import { netnsPath, type Workload } from '../resources/kinds/workload.js';

/**
 * Why a change of one document may end what the rules of others enforce; null: it cannot. Such a change is of the tier
 * `platform`, whatever namespace the document is in: where nothing is captured, no rule of that tier holds.
 */
export function whyUnenforced(before: Resource | null, after: Resource | null): string | null {
  const why =
    whyUncaptured(workloadOf(before), workloadOf(after)) ??
    whyPlaintext(peerAuthenticationOf(before), peerAuthenticationOf(after));
  return why === null ? null : `${why}, so the change is of the tier platform`;
}

type WorkloadSpec = Workload['spec'];

function whyUncaptured(before: WorkloadSpec | null, after: WorkloadSpec | null): string | null {
  const specs = [before, after].filter((spec) => spec !== null);
  // The addresses of such a workload are external for no rule of the mesh any more, as those of a ServiceEntry.
  if (specs.some((spec) => placeOf(spec) === null)) {
    return 'without spec.node and spec.netns no agent enforces rules for it';
  }
  if (before !== null && after === null) return 'no rule holds for its network namespace once it is deleted';
  if (before !== null && after !== null && placeOf(before) !== placeOf(after)) {
    return 'no rule holds for its network namespace once spec.node or spec.netns is another';
  }
  if (!isDeepStrictEqual(exclusionsOf(before), exclusionsOf(after))) {
    return 'no rule and no encryption applies to what spec.capture excludes';
  }
  if (before === null && after?.netns !== undefined && !/^\/run\/netns\/[^/]+$/.test(netnsPath(after.netns))) {
    return 'spec.netns is no name under /run/netns, and may be another name of a network namespace that has a workload';
  }
  return null;
}

/** Null: no agent captures the workload. */
function placeOf({ node, netns }: WorkloadSpec): string | null {
  return node === undefined || netns === undefined ? null : `${netnsPath(netns)} on ${node}`;
}

function exclusionsOf(spec: WorkloadSpec | null): readonly unknown[] {
  const { excludeInboundPorts = [], excludeOutboundPorts = [], excludeOutboundCidrs = [] } = spec?.capture ?? {};
  return [excludeInboundPorts, excludeOutboundPorts, excludeOutboundCidrs];
}

type PeerAuthenticationSpec = PeerAuthentication['spec'];

/** The narrowest scope counts, and in one scope STRICT: to add STRICT, or to take PERMISSIVE away, refuses more or the same. */
function whyPlaintext(before: PeerAuthenticationSpec | null, after: PeerAuthenticationSpec | null): string | null {
  if (isDeepStrictEqual(before, after)) return null;
  if (hasMode(after, 'PERMISSIVE')) return 'PERMISSIVE takes plaintext that a wider scope may refuse';
  return hasMode(before, 'STRICT') ? 'what STRICT refused may be taken again' : null;
}

function hasMode(spec: PeerAuthenticationSpec | null, wanted: 'PERMISSIVE' | 'STRICT'): boolean {
  return [spec?.mtls, ...Object.values(spec?.portLevelMtls ?? {})].some((mtls) => mtls?.mode === wanted);
}

function workloadOf(resource: Resource | null): WorkloadSpec | null {
  return resource?.kind === 'Workload' ? resource.spec : null;
}

function peerAuthenticationOf(resource: Resource | null): PeerAuthenticationSpec | null {
  return resource?.kind === 'PeerAuthentication' ? resource.spec : null;
}
