import { isIpv6, type IpAddress } from '../../../shared/address.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { randomHex } from '../connection/random-hex.js';
import type { TunnelHeaders } from '../tunnel/tunnel.js';

/**
 * The headers that accompany a CONNECT, in the form that ztunnel gives them: who the client was (RFC 7239), what
 * workload sent it (W3C baggage with OpenTelemetry's names), and the trace that both agents' records share (W3C trace
 * context). They inform; nothing is ever decided by them.
 */
export function tunnelHeaders(init: {
  readonly source: WorkloadEntry;
  readonly sourceIp: IpAddress;
  readonly traceId: string;
}): TunnelHeaders {
  return {
    forwarded: `for=${isIpv6(init.sourceIp) ? `"[${init.sourceIp}]"` : init.sourceIp}`,
    baggage: baggageOf(init.source),
    // A connection is one span; it is always sampled, because there is one record for each anyhow.
    traceparent: `00-${init.traceId}-${randomHex(8)}-01`,
  };
}

/** Entries of the registry never change, so what is made of one is made once. */
const baggages = new WeakMap<WorkloadEntry, string>();

function baggageOf(source: WorkloadEntry): string {
  const known = baggages.get(source);
  if (known !== undefined) return known;
  const baggage = renderBaggage(source);
  baggages.set(source, baggage);
  return baggage;
}

function renderBaggage(source: WorkloadEntry): string {
  const labels = source.labels;
  const service = labels['service.istio.io/canonical-name'] ?? labels['app.kubernetes.io/name'] ?? labels['app'];
  const version =
    labels['service.istio.io/canonical-revision'] ?? labels['app.kubernetes.io/version'] ?? labels['version'];
  const members: [string, string | undefined][] = [
    ['k8s.namespace.name', source.namespace],
    ['k8s.pod.name', source.name],
    ['service.name', service ?? source.name],
    ['service.version', version],
  ];
  return members
    .filter((member): member is [string, string] => member[1] !== undefined)
    .map(([key, value]) => `${key}=${encodeURIComponent(value)}`)
    .join(',');
}

/** The trace id of a `traceparent` header, or undefined when it is not a valid one (W3C Trace Context, section 3.2). */
export function traceIdOf(traceparent: string | undefined): string | undefined {
  const match = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)/.exec(traceparent ?? '');
  const traceId = match?.[1];
  return traceId === undefined || /^0+$/.test(traceId) ? undefined : traceId;
}
