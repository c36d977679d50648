import { once } from 'node:events';
import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { RolloutAnswer } from '../../controller/api/api-types.js';
import { endOf, readSome } from '../support/mesh/two-hosts.js';
import type { LabNode } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { Quantiles } from './quantiles.js';
import type { RuleDocuments } from './rule-documents.js';

/** From the start of the `culvert apply` process that changes one rule; milliseconds, the median and the slowest. */
export type EnforcementTimes = {
  readonly rounds: number;
  readonly workers: number;
  /** `culvert apply` has ended. */
  readonly commandMs: Spread;
  /** All workers of the agent enforce the revision, according to its metric, polled after the command has ended. */
  readonly enforcedMs: Spread;
  /** The controller's rollout API reports it too, which `culvert apply --wait` waits for. */
  readonly rolloutCompleteMs: Spread;
  /** An open connection that the rule denies is reset. */
  readonly liveConnectionGoneMs: Spread;
  /** A connection that the rule allows again succeeds, while it is redialled continuously. */
  readonly newConnectionAllowedMs: Spread;
  /** Duration of the first apply, of the whole set. */
  readonly wholeSetMs: number;
};

export type Spread = { readonly p50: number; readonly max: number };

const node = 'node1';
const wholeSetDeadlineMs = 180_000;
const topology = {
  hosts: [
    {
      name: node,
      workloads: [
        { name: 'web', namespace: 'live', serviceAccount: 'web' },
        { name: 'db', namespace: 'live', serviceAccount: 'db' },
      ],
    },
  ],
};

/**
 * A real controller, nats-server and agent, as processes in a lab. Two workloads are real; those of the documents are
 * registered on the same node without a network namespace.
 */
export async function measureEnforcement(init: {
  readonly documents: RuleDocuments;
  readonly rounds: number;
  readonly workers: number;
}): Promise<EnforcementTimes> {
  const { documents, rounds, workers } = init;
  await using mesh = await startMesh({ topology, culvert: 'program', agentArgs: ['--workers', String(workers)] });
  const wholeSetMs = await applyWholeSet(mesh, `${documents.text}\n---\n${gate('allow')}`);
  const found: Record<'command' | 'enforced' | 'rollout' | 'gone' | 'allowed', number[]> = {
    command: [],
    enforced: [],
    rollout: [],
    gone: [],
    allowed: [],
  };
  for (let round = 0; round < rounds; round += 1) {
    const connection = await openConnection(mesh.lab.workload('web'), mesh.lab.workload('db'));
    for (const action of ['deny', 'allow'] as const) {
      const change = startChange(mesh, action);
      const isOver = action === 'deny' ? connection.end : redial(mesh);
      const [flippedMs, times] = await Promise.all([isOver.then(() => change.elapsedMs()), change.times]);
      found[action === 'deny' ? 'gone' : 'allowed'].push(flippedMs);
      found.command.push(times.command);
      found.enforced.push(times.enforced);
      found.rollout.push(times.rollout);
    }
    connection.server.destroy();
  }
  await Promise.all(mesh.agents.map((agent) => agent.stop()));
  return {
    rounds: rounds * 2,
    workers,
    commandMs: spreadOf(found.command),
    enforcedMs: spreadOf(found.enforced),
    rolloutCompleteMs: spreadOf(found.rollout),
    liveConnectionGoneMs: spreadOf(found.gone),
    newConnectionAllowedMs: spreadOf(found.allowed),
    wholeSetMs,
  };
}

async function applyWholeSet(mesh: Mesh, documents: string): Promise<number> {
  const { controller } = mesh;
  const argv = ['env', `CULVERT_CONTEXT=${controller.contextFile}`, ...programs.culvert, 'apply', '-f', '-'];
  const startMs = performance.now();
  await controller.node.check([...argv, '-o', 'json'], { input: documents, timeoutMs: wholeSetDeadlineMs });
  const tookMs = performance.now() - startMs;
  const { revision } = (await controller.api('/v1/rollout')) as RolloutAnswer;
  await mesh.agent(node).waitForRevision(revision, wholeSetDeadlineMs);
  return tookMs;
}

/** The rule that the rounds change; it precedes all others of its tier. */
function gate(action: 'allow' | 'deny'): string {
  return JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name: 'gate' },
    spec: {
      tier: 'platform',
      priority: 1,
      action,
      from: [{ serviceAccount: 'live/web' }],
      to: [{ serviceAccount: 'live/db' }],
    },
  });
}

type ChangeTimes = { readonly command: number; readonly enforced: number; readonly rollout: number };

function startChange(mesh: Mesh, action: 'allow' | 'deny'): { elapsedMs: () => number; times: Promise<ChangeTimes> } {
  const startMs = performance.now();
  const elapsedMs = (): number => performance.now() - startMs;
  const run = async (): Promise<ChangeTimes> => {
    const answer = (await mesh.controller.culvertJson(['apply', '-f', '-'], gate(action))) as { revision: number };
    const command = elapsedMs();
    const enforced = mesh.agent(node).waitForRevision(answer.revision).then(elapsedMs);
    const rollout = waitUntil('the rollout is complete', async () => {
      const { isComplete } = (await mesh.controller.api(`/v1/rollout?revision=${answer.revision}`)) as RolloutAnswer;
      return isComplete ? true : undefined;
    }).then(elapsedMs);
    return { command, enforced: await enforced, rollout: await rollout };
  };
  return { elapsedMs, times: run() };
}

async function openConnection(from: LabNode, to: LabNode): Promise<{ server: Socket; end: Promise<string> }> {
  let take: (socket: Socket) => void = () => {};
  const accepted = new Promise<Socket>((resolve) => (take = resolve));
  const listener = await to.listen({}, (socket) => take(socket));
  const client = await from.connect({ ip: to.ipv4, port: listener.port });
  client.write('ping');
  const server = await accepted;
  listener.server.close();
  server.on('error', () => {});
  await readSome(server);
  return { server, end: endOf(client) };
}

/** Resolves when a byte of a new connection comes back. */
async function redial(mesh: Mesh): Promise<void> {
  const [from, to] = [mesh.lab.workload('web'), mesh.lab.workload('db')];
  const listener = await to.listen({}, (socket) => {
    socket.on('error', () => {});
    socket.end('pong');
  });
  try {
    await waitUntil('a new connection gets through', async () => {
      const socket = await from.connect({ ip: to.ipv4, port: listener.port });
      socket.on('error', () => {});
      const answered = once(socket, 'data').then(() => true as const);
      const closed = once(socket, 'close').then(() => undefined);
      return Promise.race([answered, closed]).finally(() => socket.destroy());
    });
  } finally {
    listener.server.close();
  }
}

function spreadOf(values: readonly number[]): Spread {
  const quantiles = new Quantiles({ values: Float64Array.from(values) });
  return { p50: quantiles.at(0.5), max: quantiles.at(1) };
}
