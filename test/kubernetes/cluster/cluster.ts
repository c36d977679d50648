import { cpSync, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../../shared/errors.js';
import { waitUntil } from '../../lab/wait-until.js';
import { manifest } from '../manifest.js';
import { adminConfig, makeKeys } from './cluster-keys.js';
import { ClusterNode } from './cluster-node.js';
import { type ClusterPlan, type NodePlan } from './cluster-plan.js';
import { startApiServer, startManagers, startStore } from './control-plane.js';
import { Kubectl } from './kubectl.js';
import { startContainerd, startKubelet } from './node-daemons.js';
import { makeFabric, netnsOf } from './node-network.js';

/** A whole Kubernetes of two nodes on this machine. It is plain data and processes: each process of the tests can hold one. */
export class Cluster {
  readonly plan: ClusterPlan;
  readonly nodes: readonly [ClusterNode, ClusterNode];
  readonly kubectl: Kubectl;
  /** With which `kubectl` on a node talks to it as the administrator. */
  readonly kubectlArgs: readonly string[];

  constructor(plan: ClusterPlan) {
    const [first, second] = plan.nodes.map((node) => new ClusterNode(plan, node));
    if (first === undefined || second === undefined) throw new Error('a cluster has two nodes');
    this.plan = plan;
    this.nodes = [first, second];
    this.kubectlArgs = ['--kubeconfig', adminConfig(plan), '--cache-dir', path.join(plan.directory, 'kubectl')];
    this.kubectl = new Kubectl((args, options) => first.run(['kubectl', ...this.kubectlArgs, ...args], options));
  }

  /** The cluster whose plan is in a file. */
  static open(file: string): Cluster {
    return new Cluster(JSON.parse(readFileSync(file, 'utf8')) as ClusterPlan);
  }

  node(name: NodePlan['name']): ClusterNode {
    return this.nodes[name === 'n1' ? 0 : 1];
  }

  /** `kubectl` as a user has it: a program of this machine, with its files, that reaches nothing but the cluster. */
  get usersKubectl(): readonly string[] {
    const { plan, nodes, kubectlArgs } = this;
    const netns = `--net=/run/netns/${netnsOf(plan, nodes[0].plan)}`;
    const program = path.join(plan.programs.directories.kubernetes, 'kubectl');
    // No proxy of this machine is in that network.
    return ['env', 'NO_PROXY=*', 'nsenter', netns, program, ...kubectlArgs];
  }

  /** Boots the nodes, with containerd. */
  async boot(): Promise<void> {
    await makeKeys(this.plan);
    await makeFabric(this.plan);
    await Promise.all(
      this.nodes.map(async (node) => {
        await node.boot();
        await startContainerd(this.plan, node);
      }),
    );
  }

  /** Takes the images of an archive onto every node. */
  async load(archive: string): Promise<void> {
    const argv = ['ctr', '--namespace', 'k8s.io', 'images', 'import', archive];
    await Promise.all(this.nodes.map((node) => node.succeed(argv, { timeoutMs: 180_000 })));
  }

  /** Starts the control plane. Resolves when the API server is ready, with the others started. */
  async startControlPlane(): Promise<void> {
    const [first] = this.nodes;
    startStore(first);
    startApiServer(this.plan, first);
    await this.#apiServerIsReady();
    startManagers(this.plan, first);
  }

  /** As if it had crashed, and the rest of the control plane goes on. `kubectl` does nothing until `startApiServer`. */
  async killApiServer(): Promise<void> {
    await this.nodes[0].killDaemon('kube-apiserver');
  }

  /** After `killApiServer`. Resolves when it is ready. */
  async startApiServer(): Promise<void> {
    startApiServer(this.plan, this.nodes[0]);
    await this.#apiServerIsReady();
  }

  async #apiServerIsReady(): Promise<void> {
    const [first] = this.nodes;
    await this.#until('the API server is ready', ['get', '--raw', '/readyz'], 'kube-apiserver', first);
  }

  /** Starts the kubelets, and waits until pods can run on both nodes. */
  async startNodes(): Promise<void> {
    await Promise.all(this.nodes.map((node) => startKubelet(this.plan, node)));
    const account = ['-n', 'default', 'get', 'serviceaccount', 'default'];
    await this.#until('the default account is there', account, 'kube-controller-manager', this.nodes[0]);
    for (const node of this.nodes)
      await this.#until(`${node.name} is known`, ['get', 'node', node.name], 'kubelet', node);
    await this.kubectl.wait(['wait', '--for=condition=Ready', 'node', '--all']);
  }

  /** Gives the services of the cluster names. */
  async startDns(): Promise<void> {
    await this.kubectl.apply(manifest('dns'));
    await this.kubectl.wait(['-n', 'kube-system', 'rollout', 'status', 'deployment/coredns']);
  }

  /** Boots a node that was unplugged; what ran on it runs again some time after. */
  async bootAgain(name: NodePlan['name']): Promise<void> {
    const node = this.node(name);
    await node.boot();
    await startContainerd(this.plan, node);
    if (node === this.nodes[0]) await this.startControlPlane();
    await startKubelet(this.plan, node);
  }

  /**
   * After `unplug`, when its Node object was deleted: boots a machine in the place of the node, with its images, that
   * registers as a new node with these taints. Of what agents and network plugins had written it has nothing.
   */
  async bootAsNew(name: NodePlan['name'], taints: readonly object[]): Promise<void> {
    const node = this.node(name);
    await node.boot();
    await node.succeed([
      'sh',
      '-c',
      'rm -rf /etc/cni/net.d/* /opt/cni/bin/culvert-cni /var/lib/culvert/* /var/lib/kubelet/pods/*',
    ]);
    await startContainerd(this.plan, node);
    await startKubelet(this.plan, node, taints);
    await this.#until(`${name} is known`, ['get', 'node', name], 'kubelet', node);
  }

  /** Copies the logs of the daemons, and of the pods that are still there, into a folder for each node. */
  keepLogs(directory: string): void {
    for (const node of this.nodes) {
      for (const [from, to] of node.logFolders()) {
        if (existsSync(from)) cpSync(from, path.join(directory, node.name, to), { recursive: true });
      }
    }
  }

  async #until(what: string, args: readonly string[], daemon: string, node: ClusterNode): Promise<void> {
    const ask = async (): Promise<true | undefined> => ((await this.kubectl.run(args)).code === 0 ? true : undefined);
    try {
      await waitUntil(what, ask, 90_000);
    } catch (cause) {
      const message = `Not in time: ${what}. The log of ${daemon}:\n${node.logOf(daemon)}`;
      throw new CulvertError({ code: 'LAB_DEADLINE', message, cause });
    }
  }
}
