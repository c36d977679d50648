import { readFileSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { parse } from 'yaml';
import { createLog } from '../../../shared/log.js';
import { nodeNamed } from '../../support/routing/names.js';
import { FakeApiServer } from '../../support/kubernetes/fake-api-server.js';
import { Quantiles } from '../quantiles.js';
import { clusterPaths, clusterPod, clusterService, podsOfService } from '../cluster-objects.js';
import { followRegistry } from './followed-registry.js';
import { joinAgent, type Api } from './joined-agent.js';
import { report } from './peer-connections.js';

/**
 * `cluster-churn.js CONTROLLER_URL CONTEXT_FILE PORT DIRECTORY PODS RATE SECONDS`: the API server of a cluster, on loopback,
 * with its `ca.crt` and `token` in DIRECTORY. RATE pods a second change so that the mesh has to know (ready or not, other
 * labels), and as many so that it does not (kubelet writes a time). It follows the registry as an agent does, and reports
 * how long a change took from the API server to there.
 */
const [url = '', contextFile = '', port = '', directory = '', podsText = '', rateText = '', secondsText = ''] =
  process.argv.slice(2);
const [pods, rate, seconds] = [Number(podsText), Number(rateText), Number(secondsText)];
const context = parse(readFileSync(contextFile, 'utf8')) as { readonly token: string; readonly ca: string };
const api: Api = { url, ...context };
const { signal } = new AbortController();
const reachMs = 60_000;
process.on('SIGTERM', () => process.kill(process.pid, 'SIGKILL'));

const server = await FakeApiServer.start({ port: Number(port), directory });
server.put(clusterPaths.namespaces, { metadata: { name: 'shop', labels: { 'culvert.dev/mesh': 'enabled' } } });
for (let number = 0; number * podsOfService < pods; number++) server.put(clusterPaths.services, clusterService(number));
for (let number = 0; number < pods; number++) server.put(clusterPaths.pods, clusterPod({ number }));

/** By key of the registry: the change that it waits for. */
const waiting = new Map<string, { readonly round: string; readonly startedAtMs: number }>();
const inForceMs: number[] = [];
let alarms = 0;
let roots = 0;
const { bus, credentials } = await joinAgent(api, nodeNamed('follower'), signal);
const follower = await followRegistry({
  bus,
  publicKeysPem: credentials.signingPublicKeys,
  log: createLog({ name: 'cluster-churn', level: 'error' }),
  signal,
  onWhole: () => {
    roots += 1;
    settle();
  },
  onAlarm: () => (alarms += 1),
});
const all = pods + Math.ceil(pods / podsOfService);
while (!follower.isComplete || follower.entries.size < all) await delay(50);
report({ following: follower.entries.size });
roots = 0;

const beganAt = performance.now();
for (let number = 0; number < rate * seconds; number++) {
  const dueMs = beganAt + (number * 1000) / rate - performance.now();
  if (dueMs > 1) await delay(dueMs);
  change((number * 7919) % pods, `r${number}`);
  server.put(
    clusterPaths.pods,
    clusterPod({ number: (number * 7907) % pods, ...kept((number * 7907) % pods), at: number }),
  );
}
const tookMs = performance.now() - beganAt;
const deadline = performance.now() + reachMs;
while (waiting.size > 0 && performance.now() < deadline) await delay(5);
const quantiles = new Quantiles({ values: Float64Array.from(inForceMs) });
report({
  changes: inForceMs.length,
  alarms,
  unreached: waiting.size,
  roots,
  tookMs,
  inForceMedianMs: quantiles.at(0.5),
  inForceP99Ms: quantiles.at(0.99),
  inForceMaxMs: quantiles.at(1),
});

/** What a pod has that its next version keeps. */
function kept(number: number): { readonly round: string; readonly isReady: boolean } {
  const { metadata, status } = server.get(
    clusterPaths.pods,
    `shop/${clusterPod({ number }).metadata.name}`,
  ) as ReturnType<typeof clusterPod>;
  return { round: metadata.labels.round, isReady: status.conditions[0]?.status === 'True' };
}

/** Every other change is one of readiness alone, but for the label by which it is found again. */
function change(number: number, round: string): void {
  const pod = clusterPod({ number, round, isReady: !kept(number).isReady });
  waiting.set(`workload.shop.${pod.metadata.name}`, { round, startedAtMs: performance.now() });
  server.put(clusterPaths.pods, pod);
}

function settle(): void {
  const now = performance.now();
  for (const [key, { round, startedAtMs }] of waiting) {
    const entry = follower.entries.get(key)?.entry;
    if (entry?.kind !== 'workload' || entry.labels['round'] !== round) continue;
    waiting.delete(key);
    inForceMs.push(now - startedAtMs);
  }
}
