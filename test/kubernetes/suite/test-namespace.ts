import { randomBytes } from 'node:crypto';
import { waitUntil } from '../../lab/wait-until.js';
import { manifest } from '../manifest.js';
import { openTarget, type Target } from '../target.js';

/** The part of a pod that tests read. */
export type Pod = {
  readonly metadata: { readonly name: string; readonly uid: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly nodeName: string };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly { readonly restartCount: number; readonly ready: boolean }[];
  };
};

/** A namespace of the cluster for one file of tests. What is in it goes with it. */
export class TestNamespace implements AsyncDisposable {
  readonly name = `culvert-test-${randomBytes(3).toString('hex')}`;
  readonly target: Target = openTarget();

  /** Pods with the network of their node are allowed in it. */
  static async create(): Promise<TestNamespace> {
    const namespace = new TestNamespace();
    const { kubectl } = namespace.target;
    await kubectl.succeed(['create', 'namespace', namespace.name]);
    const label = 'pod-security.kubernetes.io/enforce=privileged';
    await kubectl.succeed(['label', 'namespace', namespace.name, label]);
    return namespace;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { kubectl } = this.target;
    // Pods that linger on purpose are not waited for.
    const now = ['--grace-period=0', '--force', '--ignore-not-found'];
    await this.run(['delete', 'daemonset,deployment,pod', '--all', ...now]);
    await kubectl.succeed(['delete', 'namespace', this.name, '--timeout=120s'], { timeoutMs: 150_000 });
  }

  /** Creates what a file of manifests describes. Its images are those of the target. */
  async apply(name: string): Promise<void> {
    const text = manifest(name, { APP: this.target.image('app') });
    await this.target.kubectl.succeed(['-n', this.name, 'apply', '-f', '-'], { input: text });
  }

  /** `kubectl` in this namespace, which must succeed. */
  async run(args: readonly string[], input?: string): Promise<string> {
    const options = input === undefined ? {} : { input };
    return await this.target.kubectl.succeed(['-n', this.name, ...args], options);
  }

  async json(args: readonly string[]): Promise<unknown> {
    return await this.target.kubectl.json(['-n', this.name, ...args]);
  }

  async rolledOut(workload: string): Promise<void> {
    await this.target.kubectl.wait(['-n', this.name, 'rollout', 'status', workload]);
  }

  /** Pods with a label `app`. */
  async pods(app: string): Promise<readonly Pod[]> {
    const { items } = (await this.json(['get', 'pods', '-l', `app=${app}`])) as { readonly items: readonly Pod[] };
    return items;
  }

  /** The only one with a label `app` on a node. */
  async podOn(node: string, app: string): Promise<Pod> {
    return await waitUntil(`one pod ${app} runs on ${node}`, async () => {
      const found = (await this.pods(app)).filter(({ spec, metadata }) => {
        return spec.nodeName === node && metadata.deletionTimestamp === undefined;
      });
      return found.length === 1 ? found[0] : undefined;
    });
  }

  /** Names of two nodes that have a pod with a label `app`. */
  async twoNodes(app: string): Promise<readonly [string, string]> {
    const [first, second] = (await this.pods(app)).map(({ spec }) => spec.nodeName).sort();
    if (first === undefined || second === undefined)
      throw new Error('the cluster has one node, and these tests need two');
    return [first, second];
  }

  /** The first line of a server, for a pod: its host name, and the client that it sees. Throws with the error otherwise. */
  async greeting(pod: string, host: string, port: number): Promise<{ readonly host: string; readonly sees: string }> {
    const text = await this.run(['exec', pod, '--', 'node', '/app.mjs', 'once', host, String(port)]);
    return JSON.parse(text) as { readonly host: string; readonly sees: string };
  }
}

export function isReady({ status }: Pod): boolean {
  return status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}
