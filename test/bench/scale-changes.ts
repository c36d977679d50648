import type { Mesh } from '../lab/mesh.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { programs } from '../lab/programs.js';
import { taken, type Taken } from './scale-churn.js';

/** What one changed workload costs among all; what agent and controller do at rest is taken off. */
export type ChangeScale = {
  /** On the network to one agent: rules and registry, with what TLS, TCP and IP add. */
  readonly bytesToAgent: number;
  /** What the agent writes to its disk, when changes come as fast as here. */
  readonly bytesToDisk: number;
  readonly agentCpuMs: number;
  /** With its nats-server; `culvert apply` itself is not in it. */
  readonly controllerCpuMs: number;
};

const changes = 20;
/** The agent writes a large registry to disk only now and then: what it still has to write counts. */
const settleMs = 12_000;
const restMs = 6000;
const deadlineMs = 120_000;

/** `document`: of the workload that changes, JSON. The agent of the mesh is ready. */
export async function measureChange(mesh: Mesh, agent: MeshAgent, document: string): Promise<ChangeScale> {
  const workload = JSON.parse(document) as { metadata: { labels: Record<string, string> } };
  // One change first, so that neither side does anything for the first time.
  await apply(mesh, workload, 'first');
  await wait(settleMs);
  const begin = await taken(mesh, agent, mesh.controller.process.pid);
  await wait(restMs);
  const rested = await taken(mesh, agent, mesh.controller.process.pid);
  for (let round = 0; round < changes; round++) await apply(mesh, workload, `r${round}`);
  await wait(settleMs);
  const end = await taken(mesh, agent, mesh.controller.process.pid);
  const share = (end.atMs - rested.atMs) / (rested.atMs - begin.atMs);
  const each = (of: (sum: Taken) => number): number =>
    Math.max(0, (of(end) - of(rested) - (of(rested) - of(begin)) * share) / changes);
  return {
    bytesToAgent: each(({ receivedBytes }) => receivedBytes),
    bytesToDisk: each(({ writtenBytes }) => writtenBytes),
    agentCpuMs: each(({ agentCpuMs }) => agentCpuMs),
    controllerCpuMs: each(({ controllerCpuMs }) => controllerCpuMs),
  };
}

async function apply(
  mesh: Mesh,
  workload: { metadata: { labels: Record<string, string> } },
  round: string,
): Promise<void> {
  const { metadata } = workload;
  const input = JSON.stringify({ ...workload, metadata: { ...metadata, labels: { ...metadata.labels, round } } });
  const { node, contextFile } = mesh.controller;
  await node.check(['env', `CULVERT_CONTEXT=${contextFile}`, ...programs.culvert, 'apply', '-f', '-'], {
    input,
    timeoutMs: deadlineMs,
  });
}

function wait(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
