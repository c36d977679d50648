import { formatCidr, parseCidr } from '../../shared/address.js';
import { formatSpiffeId, parseSpiffeId } from '../../shared/identity.js';
import { parseNodeName } from '../../shared/routing/names.js';
import {
  podNetns,
  type CaptureExclusions,
  type Locality,
  type WorkloadEntry,
} from '../../shared/routing/registry-entry.js';
import type { Pod } from './pod.js';

/** Annotations of a pod: what of its traffic is left alone, separated by commas. */
const exclusionAnnotations = {
  excludeInboundPorts: 'culvert.dev/exclude-inbound-ports',
  excludeOutboundPorts: 'culvert.dev/exclude-outbound-ports',
  excludeOutboundCidrs: 'culvert.dev/exclude-outbound-cidrs',
} as const;

export type PodEntry = {
  /** Null: there is nothing to say of it yet. */
  readonly entry: WorkloadEntry | null;
  readonly problems: readonly string[];
};

/**
 * A pod as the registry has it. In the mesh it is published as soon as it has a node, so that its certificate is there when it
 * starts. Outside, its address leads to it in plaintext, and its labels can be selected.
 */
export function podEntry(
  pod: Pod,
  o: {
    readonly isEnrolled: boolean;
    readonly trustDomain: string;
    /** Where it runs; null: not known. */
    readonly locality: Locality | null;
  },
): PodEntry {
  const { namespace, name, serviceAccount, addresses, ports, uid } = pod;
  // Its node chose them, for any namespace: they must select it for no service and no rule.
  const labels = pod.isMirror ? {} : pod.labels;
  if (pod.isOnHost) return { entry: null, problems: [] };
  const problems: string[] = [];
  const identity = formatSpiffeId({ trustDomain: o.trustDomain, namespace, serviceAccount });
  if (parseSpiffeId(identity) === undefined) {
    return { entry: null, problems: [`its identity ${identity} is not a valid SPIFFE ID`] };
  }
  const node = pod.node === null || !o.isEnrolled ? null : (parseNodeName(pod.node) ?? null);
  if (o.isEnrolled && pod.node !== null && node === null) problems.push(`its node ${pod.node} is no name of a node`);
  if (node === null && addresses.length === 0) return { entry: null, problems };
  const entry: WorkloadEntry = {
    kind: 'workload',
    namespace,
    name,
    serviceAccount,
    identity,
    labels,
    addresses,
    node,
    netns: node === null ? null : podNetns(uid),
    protocol: node === null ? 'tcp' : 'hbone',
    capture: node === null ? noExclusions : exclusionsOf(pod, problems),
    ...(Object.keys(ports).length === 0 ? {} : { ports }),
    ...availabilityOf(pod),
    ...(o.locality === null ? {} : { locality: o.locality }),
  };
  return { entry, problems };
}

const noExclusions: CaptureExclusions = { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] };

export function availabilityOf({ isReady, isEnding }: Pod): Pick<WorkloadEntry, 'availability'> {
  if (!isReady) return { availability: 'unready' };
  return isEnding ? { availability: 'ending' } : {};
}

/** Each is a rule of the firewall in the pod's namespace. */
const maxExclusions = 64;

/** What cannot be read excludes nothing. */
function exclusionsOf({ annotations }: Pod, problems: string[]): CaptureExclusions {
  const read = <T>(field: keyof typeof exclusionAnnotations, parse: (text: string) => T | undefined): T[] => {
    const annotation = exclusionAnnotations[field];
    const texts = (annotations[annotation] ?? '').split(',').map((text) => text.trim());
    if (texts.length > maxExclusions) {
      problems.push(`the annotation ${annotation} has more than ${maxExclusions} entries, and none of them counts`);
      return [];
    }
    return texts.flatMap((text) => {
      const value = text === '' ? undefined : parse(text);
      if (value === undefined && text !== '')
        problems.push(`the annotation ${annotation} has "${text}", which is left out`);
      return value ?? [];
    });
  };
  return {
    excludeInboundPorts: read('excludeInboundPorts', parsePort),
    excludeOutboundPorts: read('excludeOutboundPorts', parsePort),
    excludeOutboundCidrs: read('excludeOutboundCidrs', (text) => {
      const cidr = parseCidr(text);
      return cidr === undefined ? undefined : formatCidr(cidr);
    }),
  };
}

function parsePort(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : undefined;
}
