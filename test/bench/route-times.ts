import { performance } from 'node:perf_hooks';
import { EndpointBalancer } from '../../agent/dataplane/balance/endpoint-balancer.js';
import { EndpointHealth } from '../../agent/dataplane/balance/endpoint-health.js';
import { ConnectionRecord } from '../../agent/dataplane/connection/connection-record.js';
import { chooseEndpoints } from '../../agent/dataplane/flow/choose-endpoints.js';
import type { FlowContext } from '../../agent/dataplane/flow/flow-context.js';
import type { Arrival, Identified } from '../../agent/dataplane/flow/identify.js';
import { buildRegistryImage } from '../../agent/dataplane/image/registry-image.js';
import { WorkerState } from '../../agent/dataplane/state/worker-state.js';
import { compileSnapshot } from '../../controller/compile/compile-snapshot.js';
import { parseDocuments } from '../../controller/resources/parse/parse-documents.js';
import type { IpAddress } from '../../shared/address.js';
import { CulvertError } from '../../shared/errors.js';
import type { RegistryEntry, RegistryService, WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { meta, timerCost, xorshift } from './decision-times.js';
import { Quantiles } from './quantiles.js';

/** Of choosing where a connection goes, in microseconds. `ejected`: endpoints at the end, of all clients' lists. */
export type RouteTimes = {
  readonly endpoints: number;
  readonly choices: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly ejected: number;
};

const choices = 200_000;
const vip = '198.18.200.1' as IpAddress;
/** One of this many endpoints refuses for ever. */
const oneBrokenOf = 20;

const documents = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web, namespace: shop }
spec:
  host: web
  trafficPolicy: { outlierDetection: { consecutive5xxErrors: 3, baseEjectionTime: 5s, maxEjectionPercent: 50 } }
  subsets:
    - { name: v1, labels: { version: v1 } }
    - { name: v2, labels: { version: v2 } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: shop }
spec:
  hosts: [web]
  tcp:
    - route:
        - { destination: { host: web, subset: v1 }, weight: 90 }
        - { destination: { host: web, subset: v2 }, weight: 10 }
`;

/**
 * Connections to a service with a route among two subsets, preference for the client's zone, and endpoints of which some fail and
 * are ejected, tried and ejected again. Each choice is timed alone, with what a change of a state costs the next one.
 */
export function measureRoutes(endpoints: number): RouteTimes {
  let nowMs = 0;
  const random = xorshift(0x5eed);
  const state = stateWith(endpoints);
  const health = new EndpointHealth({ random, nowMs: () => nowMs, isThere: () => true, rulesNow: () => () => true });
  const balancer = new EndpointBalancer({ random, nowMs: () => nowMs });
  const context = { state, health, balancer, settings: { connectRetries: 2 } } as unknown as FlowContext;
  const clients = ['a', 'b'].map((zone) => workload(`client-${zone}`, '198.19.0.1', { app: 'client' }, zone));
  const timerUs = timerCost();
  const times = new Float64Array(choices);
  // The first quarter compiles the code.
  for (let round = -choices / 4; round < choices; round++) {
    nowMs += 1;
    const entry = clients[round & 1] as WorkloadEntry;
    const record = new ConnectionRecord({ direction: 'outbound' });
    const arrival = { context, connection: { record } } as unknown as Arrival;
    const identified = { ok: true, dialled: { ip: vip, port: 80 }, client: { ip: entry.addresses[0], port: 1 }, entry };
    const startMs = performance.now();
    const chosen = chooseEndpoints(arrival, identified as unknown as Identified);
    const tookUs = (performance.now() - startMs) * 1000 - timerUs;
    if (round >= 0) times[round] = Math.max(0, tookUs);
    if (!chosen.ok || chosen.health === null) throw new RangeError('nothing was chosen');
    const [endpoint] = chosen.endpoints;
    if (endpoint === undefined) continue;
    const isBroken = Number(endpoint.workload?.name.slice(1)) % oneBrokenOf === 0;
    const { counted, policy, among, isPanic } = chosen.health;
    const use = health.begin(counted, endpoint, { policy, among, isPanic, hasAnswered: () => !isBroken });
    use?.end(isBroken ? 'failed' : 'worked', isBroken ? 'CONNECT_REFUSED' : 'OK');
    if (round % 1000 === 0) health.take();
  }
  const { ejected } = health.take();
  const quantiles = new Quantiles({ values: times });
  const [p50Us, p99Us, p999Us] = [quantiles.at(0.5), quantiles.at(0.99), quantiles.at(0.999)];
  return { endpoints, choices, p50Us, p99Us, p999Us, ejected: ejected.length };
}

function stateWith(endpoints: number): WorkerState {
  const { resources, problems } = parseDocuments(documents);
  const compiled = compileSnapshot(resources, meta);
  if (problems.length > 0 || 'problems' in compiled) {
    throw new CulvertError({
      code: 'BENCH_DOCUMENTS',
      message: `the documents are wrong: ${JSON.stringify(problems)}`,
    });
  }
  const service: RegistryService = {
    kind: 'service',
    namespace: 'shop',
    name: 'web',
    vips: [vip],
    ports: [{ port: 80, targetPort: 8080 }],
    selector: { app: 'web' },
    distribution: 'prefer-same-zone',
  };
  const entries: RegistryEntry[] = [service];
  for (let index = 0; index < endpoints; index++) {
    // Most are in one zone, so that the longest list has most of them.
    const [version, zone] = [index % 10 === 9 ? 'v2' : 'v1', index % 50 === 49 ? 'b' : 'a'];
    entries.push(workload(`w${index}`, `198.18.${index >> 8}.${index & 255}`, { app: 'web', version }, zone));
  }
  const state = new WorkerState();
  state.registry.apply({ image: buildRegistryImage(entries), upserts: [], removals: [] });
  state.useSnapshot(compiled.snapshot);
  return state;
}

function workload(name: string, address: string, labels: WorkloadEntry['labels'], zone: string): WorkloadEntry {
  const entry = {
    kind: 'workload',
    namespace: 'shop',
    name,
    serviceAccount: 'web',
    identity: `spiffe://${meta.trustDomain}/ns/shop/sa/web`,
    labels,
    addresses: [address],
    node: 'node2',
    netns: name,
    protocol: 'hbone',
    capture: { excludeOutboundPorts: [], excludeInboundPorts: [], excludeOutboundCidrs: [] },
    locality: { host: `host-of-${name}`, zone },
  };
  return entry as unknown as WorkloadEntry;
}
