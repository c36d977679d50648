import type { HostPort } from '../../../shared/address.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { traceparentOf } from '../connection/trace-context.js';
import type { TunnelHeaders } from '../tunnel/tunnel.js';
import { forwardedOf } from './client-address.js';

/**
 * The headers of a CONNECT, in the form that ztunnel uses: the client (RFC 7239), the source workload (W3C baggage with
 * OpenTelemetry's names), and the trace that both agents' records share (W3C Trace Context). No decision depends on them.
 */
export function tunnelHeaders(init: {
  readonly source: WorkloadEntry;
  /** The application's own address and port. */
  readonly client: HostPort;
  readonly traceId: string;
}): TunnelHeaders {
  return {
    forwarded: forwardedOf(init.client),
    baggage: baggageOf(init.source),
    traceparent: traceparentOf(init.traceId),
  };
}

/** Registry entries are immutable, so the text for each is made once. */
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
