import { fail, warn, type Finding } from '../mesh-check.js';
import { itemsOf, type ClusterFacts, type NodeObject } from './cluster-facts.js';
import { listText, notRead, unread } from './texts.js';

/** Before, an agent in a container cannot name its cgroup in a rule (`security.md`, "What a host has"). */
export const kernelForCgroup = [6, 1] as const;

export function nodesText({ nodes }: ClusterFacts): string {
  const count = itemsOf(nodes).length;
  return `${count} ${count === 1 ? 'node is' : 'nodes are'} ready, with Linux and pods of DaemonSets`;
}

export function nodeFindings({ nodes, planned: { nodeSelector } }: ClusterFacts): Finding[] {
  if ('problem' in nodes) return [notRead('nodes', nodes.problem)];
  const { items } = nodes;
  if (items.length === 0) return [fail('the cluster has no node', 'add one')];
  const where = (fits: (node: NodeObject) => boolean): readonly string[] =>
    items.filter(fits).map(({ metadata }) => metadata.name);
  const findings: Finding[] = [];
  const tell = (names: readonly string[], finding: (list: string) => Finding): void => {
    if (names.length > 0) findings.push(finding(listText(names)));
  };
  tell(
    where((node) => !isLinux(node)),
    (list) =>
      warn(
        `no agent runs on ${list}, which ${verb(list)} no Linux: pods there are outside the mesh`,
        'keep pods that belong into the mesh off them: nodeSelector kubernetes.io/os=linux',
      ),
  );
  tell(where(isWithoutDaemonSets), (list) =>
    warn(
      `${list} ${verb(list)} no machine that runs DaemonSets: pods there are outside the mesh`,
      'keep pods that belong into the mesh off them',
    ),
  );
  tell(
    where((node) => isLinux(node) && !isWithoutDaemonSets(node) && !isReady(node)),
    (list) => warn(`not ready: ${list}`, 'their agents start when they are: kubectl describe node'),
  );
  const architectures = [...new Set(items.filter(isLinux).map(({ status }) => status.nodeInfo.architecture))].sort();
  if (architectures.length > 1) {
    const message = `the nodes have different processors: ${architectures.join(', ')}`;
    findings.push(warn(message, 'the image has to be there for each of them: build one of several platforms'));
  }
  const wanted = Object.entries(nodeSelector);
  const isSelected = ({ metadata: { labels } }: NodeObject): boolean =>
    wanted.every(([key, value]) => labels?.[key] === value);
  if (wanted.length > 0 && !items.some(isSelected)) {
    const labels = wanted.map(([key, value]) => `${key}=${value}`).join(', ');
    findings.push(fail(`no node has ${labels}, so the controller runs nowhere`, 'correct --node-selector'));
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
