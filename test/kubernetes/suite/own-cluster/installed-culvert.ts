import path from 'node:path';
import process from 'node:process';
import type { AccessLogLine } from '../../../../agent/telemetry/access-log.js';
import { requireSuccess } from '../../../lab/command.js';
import { waitUntil } from '../../../lab/wait-until.js';
import type { Cluster } from '../../cluster/cluster.js';
import type { NodePlan } from '../../cluster/cluster-plan.js';
import { imageName, usualRepository } from '../../images/test-images.js';
import { manifest } from '../../manifest.js';

const system = 'culvert-system';
const controllerState = '/var/lib/culvert/controller';
const culvertProgram = path.resolve(import.meta.dirname, '../../../../programs/culvert.js');

/** What `culvert check -o json` says of one thing. */
type Check = { readonly check: string; readonly state: 'ok' | 'warn' | 'fail' | 'unchecked'; readonly message: string };

/** Takes what agents have left out of each node, as the documents say. No agent runs. */
export async function cureNodes({ kubectl }: Cluster): Promise<void> {
  const cure = manifest('cni-cure', { CULVERT: imageName('culvert', usualRepository) });
  await kubectl.apply(cure);
  await kubectl.wait(['-n', 'kube-system', 'rollout', 'status', 'daemonset/culvert-cure']);
  await kubectl.succeed(['delete', '-f', '-', '--timeout=60s'], { input: cure, timeoutMs: 90_000 });
}

/** Culvert on the cluster, as the documents say that one installs it. */
export class InstalledCulvert implements AsyncDisposable {
  readonly #cluster: Cluster;
  #objects: string;
  /** Trace ids of the connections that were asked for. */
  readonly #seen = new Set<string>();

  private constructor(cluster: Cluster, objects: string) {
    this.#cluster = cluster;
    this.#objects = objects;
  }

  /** Resolves when the controller is ready, and an agent on each node. `options`: more of `culvert install`. */
  static async install(cluster: Cluster, options: readonly string[] = []): Promise<InstalledCulvert> {
    const { kubectl } = cluster;
    const objects = await this.#objectsWith(options);
    await kubectl.succeed(['apply', '--server-side', '-f', '-'], { input: await this.definitions() });
    await kubectl.apply(objects);
    await kubectl.wait(['-n', system, 'rollout', 'status', 'deployment/culvert-controller']);
    await kubectl.wait(['-n', system, 'rollout', 'status', 'daemonset/culvert-agent']);
    return new InstalledCulvert(cluster, objects);
  }

  /** What `culvert install` prints with these options. */
  static #objectsWith(options: readonly string[]): Promise<string> {
    const image = imageName('culvert', usualRepository);
    const storage = ['--storage', `host-path:${controllerState}`, '--node-selector', 'kubernetes.io/hostname=n1'];
    const argv = [process.execPath, culvertProgram, 'install', '--image', image, ...storage, ...options];
    return requireSuccess(argv, { timeoutMs: 60_000 });
  }

  /** What `culvert install --crds` prints. */
  static definitions(): Promise<string> {
    return requireSuccess([process.execPath, culvertProgram, 'install', '--crds'], { timeoutMs: 60_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { kubectl, nodes } = this.#cluster;
    const definitions = await InstalledCulvert.definitions();
    await kubectl.succeed(['delete', '-f', '-', '--timeout=120s'], { input: definitions, timeoutMs: 150_000 });
    await kubectl.succeed(['delete', '-f', '-', '--timeout=120s'], { input: this.#objects, timeoutMs: 150_000 });
    // The plugin would let all pods wait for an agent, those of the next file too.
    await cureNodes(this.#cluster);
    for (const node of nodes) await node.succeed(['sh', '-c', `rm -rf /var/lib/culvert/agent ${controllerState}`]);
  }

  /** Applies what `culvert install` prints with other options, and waits as {@link applyAgain} does. */
  async change(options: readonly string[]): Promise<void> {
    this.#objects = await InstalledCulvert.#objectsWith(options);
    await this.applyAgain();
  }

  /** Applies its objects again, and waits until the controller is ready, and an agent on each node. */
  async applyAgain(): Promise<void> {
    const { kubectl } = this.#cluster;
    await kubectl.apply(this.#objects);
    await kubectl.wait(['-n', system, 'rollout', 'status', 'deployment/culvert-controller']);
    await kubectl.wait(['-n', system, 'rollout', 'status', 'daemonset/culvert-agent']);
  }

  /** Labels a namespace, and waits until that many pods of the cluster are in the mesh, and captured. */
  async enrol(namespace: string, pods: number): Promise<void> {
    await this.#cluster.kubectl.succeed(['label', '--overwrite', 'namespace', namespace, 'culvert.dev/mesh=enabled']);
    await this.captures(pods);
  }

  /** Waits until that many pods of the cluster are in the mesh, and captured. */
  async captures(pods: number): Promise<void> {
    let last: readonly Check[] = [];
    try {
      await waitUntil(`${pods} pods are in the mesh`, async () => {
        last = await this.checks();
        const [workloads] = last.filter(({ check }) => check === 'workloads');
        const isKnown = last.some(({ message }) => message.includes(`known, ${pods} of them in the mesh`));
        return (isKnown && workloads?.state === 'ok') || undefined;
      });
    } catch (error) {
      throw new Error(`${String(error)}; culvert check says: ${JSON.stringify(last)}`, { cause: error });
    }
  }

  async checks(): Promise<readonly Check[]> {
    const { stdout } = await this.#exec(['check', '-o', 'json']);
    return JSON.parse(stdout) as readonly Check[];
  }

  /** Runs a command of `culvert` next to the controller, which must succeed. */
  async culvert(args: readonly string[], input?: string): Promise<string> {
    const { code, stdout, stderr } = await this.#exec(args, input);
    if (code === 0) return stdout;
    throw new Error(`culvert ${args.join(' ')}: ${stderr.trim()}`);
  }

  #exec(args: readonly string[], input?: string): ReturnType<Cluster['kubectl']['run']> {
    const interactive = input === undefined ? [] : ['-i'];
    const pod = ['exec', ...interactive, 'deployment/culvert-controller', '-c', 'controller', '--'];
    return this.#cluster.kubectl.run(['-n', system, ...pod, 'culvert', ...args], {
      timeoutMs: 120_000,
      ...(input === undefined ? {} : { input }),
    });
  }

  async culvertJson(args: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.culvert([...args, '-o', 'json']));
  }

  /** The next access-log line of a node that fits and was not returned before. */
  async nextRecord(node: NodePlan['name'], fits: (line: AccessLogLine) => boolean): Promise<AccessLogLine> {
    const found = await waitUntil(`the agent of ${node} logs the connection`, async () => {
      return (await this.records(node)).find((line) => fits(line) && !this.#seen.has(`${node} ${line.traceId}`));
    });
    this.#seen.add(`${node} ${found.traceId}`);
    return found;
  }

  /** The last lines of both agents, for a test that failed. */
  async lastRecords(): Promise<string> {
    const { nodes } = this.#cluster;
    const lines = await Promise.all(
      nodes.map(async ({ name: node }) =>
        (await this.records(node)).slice(-6).map(({ startedAt, direction, path: way, reason, detail, ...line }) => {
          const ends = `${line.sourceAddress} to ${line.requested ?? line.destinationAddress}`;
          return `${node} ${startedAt} ${direction} ${way} ${ends}: ${reason} ${detail ?? ''}`;
        }),
      ),
    );
    return lines.flat().join(' | ');
  }

  /** The last access-log lines of the agent of a node. */
  async records(node: NodePlan['name']): Promise<AccessLogLine[]> {
    const { kubectl } = this.#cluster;
    const selector = ['-l', 'app.kubernetes.io/component=agent', '--field-selector', `spec.nodeName=${node}`];
    const [pod = ''] = (await kubectl.succeed(['-n', system, 'get', 'pods', ...selector, '-o', 'name'])).split('\n');
    const log = await kubectl.succeed(['-n', system, 'logs', pod, '--tail=500']);
    return log
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as AccessLogLine)
      .filter(({ kind }) => kind === 'access');
  }
}
