import { fail, warn, type Finding } from '../mesh-check.js';
import { itemsOf, type ClusterFacts, type NodeObject } from './cluster-facts.js';
import { fitsNode } from './node-fit.js';
import { listText, notRead, unread } from './texts.js';

/** Before, an agent in a container cannot name its cgroup in a rule (`security.md`, "What a host has"). */
export const kernelForCgroup = [6, 1] as const;

export function nodesText({ nodes, planned: { agentPod } }: ClusterFacts): string {
  const count = itemsOf(nodes).filter((node) => agentPod === null || fitsNode(agentPod, node)).length;
  return `${count} ${count === 1 ? 'node is' : 'nodes are'} ready, with Linux and pods of DaemonSets`;
}

export function nodeFindings({ nodes, planned: { agentPod, controllerPod } }: ClusterFacts): Finding[] {
  if ('problem' in nodes) return [notRead('nodes', nodes.problem)];
  const { items } = nodes;
  if (items.length === 0) return [fail('the cluster has no node', 'add one')];
  const where = (fits: (node: NodeObject) => boolean): readonly string[] =>
    items.filter(fits).map(({ metadata }) => metadata.name);
  const hasAgent = (node: NodeObject): boolean => agentPod !== null && fitsNode(agentPod, node);
  const findings: Finding[] = [];
  const tell = (names: readonly string[], finding: (list: string) => Finding): void => {
    if (names.length > 0) findings.push(finding(listText(names)));
  };
  tell(
    where((node) => !isLinux(node) && !hasAgent(node)),
    (list) =>
      warn(
        `no agent runs on ${list}, which ${verb(list)} no Linux: pods there are outside the mesh`,
        'keep pods that belong into the mesh off them: nodeSelector kubernetes.io/os=linux',
      ),
  );
  tell(
    where((node) => isWithoutDaemonSets(node) && !hasAgent(node)),
    (list) =>
      warn(
        `${list} ${verb(list)} no machine that runs DaemonSets: pods there are outside the mesh`,
        'keep pods that belong into the mesh off them',
      ),
  );
  tell(
    where((node) => !takesAgents(node) && hasAgent(node)),
    (list) =>
      fail(
        `the DaemonSet of the agents makes pods for ${list}, which never run there: no update and no removal of it ends`,
        'leave agent.nodeAffinity of the chart as it is, or exclude such nodes there',
      ),
  );
  const left = where((node) => agentPod !== null && takesAgents(node) && !hasAgent(node));
  tell(left, (list) => {
    const none = !items.some(hasAgent);
    return (none ? fail : warn)(
      `the selector of the agents leaves out ${list}: pods there are outside the mesh`,
      none ? 'correct --agent-node-selector: no node has an agent' : 'keep pods that belong into the mesh off them',
    );
  });
  tell(
    where((node) => takesAgents(node) && (agentPod === null || hasAgent(node)) && !isReady(node)),
    (list) => warn(`not ready: ${list}`, 'their agents start when they are: kubectl describe node'),
  );
  const architectures = [...new Set(items.filter(isLinux).map(({ status }) => status.nodeInfo.architecture))].sort();
  if (architectures.length > 1) {
    const message = `the nodes have different processors: ${architectures.join(', ')}`;
    findings.push(warn(message, 'the image has to be there for each of them: build one of several platforms'));
  }
  if (controllerPod !== null && !items.some((node) => fitsNode(controllerPod, node))) {
    const wanted = Object.entries(controllerPod.nodeSelector ?? {}).map(([key, value]) => `${key}=${value}`);
    const what = wanted.length === 0 ? 'what the controller asks for' : wanted.join(', ');
    findings.push(fail(`no node has ${what}, so the controller runs nowhere`, 'correct --node-selector'));
  }
  return findings;
}

export function kernelFindings({ nodes }: ClusterFacts): Finding[] {
  if ('problem' in nodes) return [notRead('nodes', nodes.problem)];
  const old = nodes.items.filter((node) => isLinux(node) && isOlder(kernelOf(node), kernelForCgroup));
  if (old.length === 0) return [];
  const kernels = [...new Set(old.map(({ status }) => status.nodeInfo.kernelVersion))];
  const names = listText(old.map(({ metadata }) => metadata.name));
  return [
    warn(
      `${names}: Linux ${listText(kernels)}; before 6.1, a pod with CAP_NET_RAW there can send what no agent sees`,
      'drop that capability from pods of the mesh, or take a newer kernel: see security.md, "What a host has"',
    ),
  ];
}

/** Where a runtime puts the network namespaces of pods, and which ones kernels of guests hide from capture. */
export function runtimeFindings({ nodes, runtimeClasses }: ClusterFacts): Finding[] {
  const foreign = itemsOf(nodes).filter(
    (node) => isLinux(node) && !/^(containerd|cri-o):\/\//.test(node.status.nodeInfo.containerRuntimeVersion),
  );
  const byRuntime = new Map<string, string[]>();
  for (const { metadata, status } of foreign) {
    const runtime = status.nodeInfo.containerRuntimeVersion;
    byRuntime.set(runtime, [...(byRuntime.get(runtime) ?? []), metadata.name]);
  }
  const guests = itemsOf(runtimeClasses).filter(({ handler }) => /kata|runsc|gvisor|firecracker/i.test(handler));
  return [
    ...unread({ nodes, RuntimeClasses: runtimeClasses }),
    ...[...byRuntime].map(([runtime, names]) =>
      fail(
        `${listText(names)}: ${runtime} does not keep the network namespaces of pods in /run/netns, so no pod there is captured`,
        'use containerd or CRI-O',
      ),
    ),
    ...(guests.length === 0
      ? []
      : [
          warn(
            `pods of the RuntimeClass ${listText(guests.map(({ metadata }) => metadata.name))} have a kernel or a network stack of their own: what they send cannot be captured`,
            'keep them outside the mesh: culvert.dev/mesh=disabled',
          ),
        ]),
  ];
}

function isLinux({ status }: NodeObject): boolean {
  return status.nodeInfo.operatingSystem === 'linux';
}

function takesAgents(node: NodeObject): boolean {
  return isLinux(node) && !isWithoutDaemonSets(node);
}

function isReady({ status }: NodeObject): boolean {
  return (status.conditions ?? []).some((condition) => condition.type === 'Ready' && condition.status === 'True');
}

/** Fargate of EKS, and nodes of Virtual Kubelet. */
function isWithoutDaemonSets({ metadata: { labels } }: NodeObject): boolean {
  return labels?.['eks.amazonaws.com/compute-type'] === 'fargate' || labels?.['type'] === 'virtual-kubelet';
}

function kernelOf({ status }: NodeObject): readonly [number, number] | null {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(status.nodeInfo.kernelVersion) ?? [];
  return major === undefined ? null : [Number(major), Number(minor)];
}

function isOlder(kernel: readonly [number, number] | null, than: readonly [number, number]): boolean {
  return kernel !== null && (kernel[0] < than[0] || (kernel[0] === than[0] && kernel[1] < than[1]));
}

function verb(list: string): 'is' | 'are' {
  return list.includes(', ') ? 'are' : 'is';
}
