import { fileURLToPath } from 'node:url';
import type { Mesh } from '../lab/mesh.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { reportOf } from './load-program.js';
import { usageOf } from './process-usage.js';

/** Workloads that change all the time, among all. Times are those of an agent that has no data plane. */
export type ChurnScale = {
  readonly changes: number;
  readonly changesPerSecond: number;
  readonly seconds: number;
  /** Refused, or never in force. */
  readonly failed: number;
  /** Until the last was answered: longer than {@link seconds} when the machine is too busy. */
  readonly tookMs: number;
  /** Roots that an agent saw: changes that come together share one. */
  readonly roots: number;
  /** With its nats-server, at this rate; 100 is a whole core. */
  readonly controllerPercent: number;
  /** Of a real agent with one worker, which serves nothing meanwhile. */
  readonly agentPercent: number;
  readonly agentBytesPerSecond: number;
  readonly agentDiskBytesPerSecond: number;
  /** From the request until it is answered, which is when it is on disk and NATS has it. */
  readonly answerMs: { readonly median: number; readonly p99: number };
  /** From the request until it is in the whole registry of the agent. */
  readonly inForceMs: { readonly median: number; readonly p99: number; readonly max: number };
};

const deadlineMs = 300_000;

/** `workloads`: those of `ruleDocuments` that are registered. The agent of the mesh is ready. */
export async function measureChurn(
  mesh: Mesh,
  agent: MeshAgent,
  o: { readonly workloads: number; readonly changesPerSecond: number; readonly seconds: number },
): Promise<ChurnScale> {
  const { workloads, changesPerSecond, seconds } = o;
  const file = fileURLToPath(new URL('load/workload-churn.js', import.meta.url));
  const { url, contextFile, process: controller } = mesh.controller;
  const numbers = [workloads, changesPerSecond, seconds].map(String);
  const node = `churn-${workloads}`;
  // Not on the host of the agent: what that receives is the agent's.
  const load = await mesh.controller.node.spawn([process.execPath, file, url, contextFile, node, ...numbers]);
  try {
    await reportOf(load, 'following', deadlineMs);
    const before = await taken(mesh, agent, controller.pid);
    const found = await reportOf(load, 'changes', deadlineMs);
    const after = await taken(mesh, agent, controller.pid);
    const figure = (name: string): number => found[name] ?? Number.NaN;
    // By change and not by time: on a machine that is too busy for the rate, the changes take longer and cost the same.
    const each = (of: (sum: Taken) => number): number =>
      ((of(after) - of(before)) / figure('changes')) * changesPerSecond;
    return {
      changes: figure('changes'),
      changesPerSecond,
      seconds,
      failed: figure('failed') + figure('unreached') + figure('alarms'),
      tookMs: figure('tookMs'),
      roots: figure('roots'),
      controllerPercent: each(({ controllerCpuMs }) => controllerCpuMs) / 10,
      agentPercent: each(({ agentCpuMs }) => agentCpuMs) / 10,
      agentBytesPerSecond: each(({ receivedBytes }) => receivedBytes),
      agentDiskBytesPerSecond: each(({ writtenBytes }) => writtenBytes),
      answerMs: { median: figure('answerMedianMs'), p99: figure('answerP99Ms') },
      inForceMs: { median: figure('inForceMedianMs'), p99: figure('inForceP99Ms'), max: figure('inForceMaxMs') },
    };
  } finally {
    await load.stop();
  }
}

export type Taken = {
  readonly atMs: number;
  readonly receivedBytes: number;
  readonly writtenBytes: number;
  readonly agentCpuMs: number;
  readonly controllerCpuMs: number;
};

/** What the agent of node1 and the controller have taken so far. Of the network: the whole host. */
export async function taken(mesh: Mesh, agent: MeshAgent, controllerPid: number): Promise<Taken> {
  const { pid } = agent.process;
  const host = mesh.lab.host('node1');
  const devices = await host.check(['cat', '/proc/net/dev']);
  const io = await host.check(['cat', `/proc/${pid}/io`]);
  return {
    atMs: performance.now(),
    receivedBytes: Number(/eth0:\s*(\d+)/.exec(devices)?.[1]),
    writtenBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1]),
    agentCpuMs: usageOf([pid]).cpuSeconds * 1000,
    controllerCpuMs: usageOf([controllerPid]).cpuSeconds * 1000,
  };
}
