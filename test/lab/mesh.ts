import { createLab, type Lab } from './lab.js';
import { MeshAgent } from './mesh-agent.js';
import { type CulvertKind, MeshController } from './mesh-controller.js';
import type { LabTopology } from './topology.js';

export type MeshOptions = {
  readonly topology: LabTopology;
  readonly controllerArgs?: readonly string[];
  /** Default: `library`. */
  readonly culvert?: CulvertKind;
  /** For every agent. */
  readonly agentArgs?: readonly string[];
  readonly agentCommand?: 'run' | 'supervise';
  /** `file`: agents write their logs directly to files, for measurements. */
  readonly agentOutput?: 'read' | 'file';
  /** More documents that are applied before the agents start (YAML). */
  readonly documents?: string;
};

/** A lab and its processes: controller, embedded nats-server, and an agent on each host. */
export class Mesh implements AsyncDisposable {
  readonly lab: Lab;
  readonly controller: MeshController;
  readonly agents: readonly MeshAgent[];

  constructor(init: { lab: Lab; controller: MeshController; agents: readonly MeshAgent[] }) {
    this.lab = init.lab;
    this.controller = init.controller;
    this.agents = init.agents;
  }

  /** Throws when the lab has no such host. */
  agent(host: string): MeshAgent {
    const found = this.agents.find((agent) => agent.name === host);
    if (found === undefined)
      throw new Error(`no agent on "${host}"; there are ${this.agents.map(({ name }) => name).join(', ')}`);
    return found;
  }

  /** Joins and starts every agent; resolves when all are ready. */
  async startAgents(): Promise<void> {
    await Promise.all(
      this.agents.map(async (agent) => {
        await agent.fetchToken();
        await agent.start();
        await agent.waitReady();
      }),
    );
  }

  /** `culvert apply -f -`; resolves with the revision when every running agent enforces it. Throws when it is refused. */
  async apply(documents: string): Promise<number> {
    const answer = await this.controller.culvertJson(['apply', '-f', '-'], documents);
    const { revision } = answer as { revision: number };
    await this.waitForRevision(revision);
    return revision;
  }

  /** `culvert delete KIND NAME`; resolves like {@link apply}. */
  async delete(...target: readonly string[]): Promise<number> {
    const answer = await this.controller.culvertJson(['delete', ...target]);
    const { revision } = answer as { revision: number };
    await this.waitForRevision(revision);
    return revision;
  }

  async waitForRevision(revision: number): Promise<void> {
    const running = this.agents.filter((agent) => !agent.process.hasExited);
    await Promise.all(running.map((agent) => agent.waitForRevision(revision)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab.close();
  }
}

/** A lab with a running controller, registered workloads and services, and agents that are not started. */
export async function prepareMesh(options: MeshOptions): Promise<Mesh> {
  const lab = await createLab({ ...options.topology, hasController: true });
  try {
    const { controllerArgs: args = [], culvert = 'library' } = options;
    const controller = new MeshController({ lab, args, culvert });
    const agents = options.topology.hosts.map(
      ({ name }) =>
        new MeshAgent({
          lab,
          host: name,
          controller,
          args: options.agentArgs ?? [],
          ...(options.agentCommand === undefined ? {} : { command: options.agentCommand }),
          ...(options.agentOutput === undefined ? {} : { output: options.agentOutput }),
        }),
    );
    await controller.start();
    const documents = [lab.resources(), options.documents].filter((text) => text !== undefined).join('\n---\n');
    await controller.culvertJson(['apply', '-f', '-'], documents);
    return new Mesh({ lab, controller, agents });
  } catch (error) {
    await lab.close();
    throw error;
  }
}

/** A complete, ready mesh with every workload captured. */
export async function startMesh(options: MeshOptions): Promise<Mesh> {
  const mesh = await prepareMesh(options);
  try {
    await mesh.startAgents();
    return mesh;
  } catch (error) {
    await mesh.lab.close();
    throw error;
  }
}
