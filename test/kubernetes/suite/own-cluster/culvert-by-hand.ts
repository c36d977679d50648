import { patientMs } from '../../../lab/patience.js';
import type { AccessLogLine } from '../../../../agent/telemetry/access-log.js';
import { waitUntil } from '../../../lab/wait-until.js';
import type { Cluster } from '../../cluster/cluster.js';
import type { NodePlan } from '../../cluster/cluster-plan.js';
import { imageName, usualRepository } from '../../images/test-images.js';
import { manifest } from '../../manifest.js';
import { podDocuments } from './pod-documents.js';

const system = 'culvert-system';

/** Culvert on the cluster as one sets it up by hand: tokens in a Secret, and a document for each pod. */
export class CulvertByHand implements AsyncDisposable {
  readonly #cluster: Cluster;
  /** Trace ids of the connections that were asked for. */
  readonly #seen = new Set<string>();

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Resolves when the controller is ready and an agent runs on each node. */
  static async install(cluster: Cluster): Promise<CulvertByHand> {
    const installed = new CulvertByHand(cluster);
    const { kubectl } = cluster;
    const text = manifest('culvert', { CULVERT: imageName('culvert', usualRepository) });
    await kubectl.apply(text);
    await kubectl.wait(['-n', system, 'rollout', 'status', 'deployment/culvert-controller']);
    // Only now there are tokens; until then the agents' pods wait for the Secret.
    const tokens: string[] = [];
    for (const { name } of cluster.nodes) {
      const { token } = (await installed.culvertJson(['token', 'create', '--node', name])) as {
        readonly token: string;
      };
      tokens.push(`--from-literal=${name}=${token}`);
    }
    await kubectl.succeed(['-n', system, 'create', 'secret', 'generic', 'culvert-tokens', ...tokens]);
    await kubectl.wait(['-n', system, 'rollout', 'status', 'daemonset/culvert-agent']);
    return installed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { kubectl, nodes } = this.#cluster;
    await kubectl.succeed(['delete', 'namespace', system, '--timeout=120s'], { timeoutMs: 150_000 });
    for (const node of nodes)
      await node.succeed(['sh', '-c', 'rm -rf /var/lib/culvert/agent /var/lib/culvert/controller']);
  }

  /** Registers the pods and Services of a namespace, and waits until all of them are captured. */
  async enrol(namespace: string): Promise<void> {
    const documents = await podDocuments(this.#cluster, namespace);
    await this.culvert(['apply', '--wait', `${Math.ceil(patientMs(60_000) / 1000)}s`, '-f', '-'], documents);
  }

  /** Runs a command of `culvert` next to the controller, which must succeed. */
  async culvert(args: readonly string[], input?: string): Promise<string> {
    const interactive = input === undefined ? [] : ['-i'];
    const argv = [
      '-n',
      system,
      'exec',
      ...interactive,
      'deployment/culvert-controller',
      '-c',
      'controller',
      '--',
      'culvert',
    ];
    return await this.#cluster.kubectl.succeed([...argv, ...args], {
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

  /** The last access-log lines of the agent of a node. */
  async records(node: NodePlan['name']): Promise<AccessLogLine[]> {
    const { kubectl } = this.#cluster;
    const selector = ['-l', 'app=culvert-agent', '--field-selector', `spec.nodeName=${node}`];
    const [pod = ''] = (await kubectl.succeed(['-n', system, 'get', 'pods', ...selector, '-o', 'name'])).split('\n');
    const log = await kubectl.succeed(['-n', system, 'logs', pod, '--tail=500']);
    return log
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as AccessLogLine)
      .filter(({ kind }) => kind === 'access');
  }
}
