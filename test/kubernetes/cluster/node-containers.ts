import { randomBytes } from 'node:crypto';
import type { CommandOptions, CommandResult } from '../../lab/command.js';
import { waitUntil } from '../../lab/wait-until.js';
import type { ClusterNode } from './cluster-node.js';

/** Which container: of a pod by its name, or of whichever pod of the node has one of that name. */
export type ContainerName = { readonly pod?: string; readonly container: string };

/** The containers that run on a node, as its runtime has them: also while the API server is away. */
export class NodeContainers {
  readonly #node: ClusterNode;

  constructor(node: ClusterNode) {
    this.#node = node;
  }

  /** The id of the container; undefined: none of that name runs. */
  async find({ pod, container }: ContainerName): Promise<string | undefined> {
    const labels = [
      `labels."io.kubernetes.container.name"==${container}`,
      ...(pod === undefined ? [] : [`labels."io.kubernetes.pod.name"==${pod}`]),
    ];
    const named = (await this.#ctr(['containers', 'ls', '-q', labels.join(',')])).split('\n');
    const tasks = (await this.#ctr(['tasks', 'ls'])).split('\n').map((line) => line.split(/\s+/));
    const [running] = tasks.filter(([id = '', , status]) => status === 'RUNNING' && named.includes(id));
    return running?.[0];
  }

  /** Runs a program in a container to its end, whatever its exit code. */
  async exec(name: ContainerName, argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    const id = await this.#require(name);
    const as = ['--exec-id', randomBytes(6).toString('hex')];
    return await this.#node.run(['ctr', '--namespace', 'k8s.io', 'tasks', 'exec', ...as, id, ...argv], options);
  }

  /** Sends SIGKILL to a container's first process, as if it had crashed. Resolves when another one of that name runs. */
  async crash(name: ContainerName): Promise<void> {
    const id = await this.#require(name);
    await this.signal(name, 'SIGKILL');
    await waitUntil(
      `${name.container} on ${this.#node.name} runs again`,
      async () => {
        const now = await this.find(name);
        return (now !== undefined && now !== id) || undefined;
      },
      90_000,
    );
  }

  /** Sends a signal to a container's first process. */
  async signal(name: ContainerName, signal: NodeJS.Signals): Promise<void> {
    await this.#ctr(['tasks', 'kill', '--signal', signal, await this.#require(name)]);
  }

  async #require(name: ContainerName): Promise<string> {
    const { pod = 'a pod', container } = name;
    return await waitUntil(`${container} of ${pod} runs on ${this.#node.name}`, () => this.find(name));
  }

  #ctr(args: readonly string[]): Promise<string> {
    return this.#node.succeed(['ctr', '--namespace', 'k8s.io', ...args]);
  }
}
