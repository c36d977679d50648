import path from 'node:path';
import type { ClusterPlan, NodePlan } from './cluster-plan.js';

/** Where a node has the declared programs of this run. */
export const declaredInNode = '/opt/culvert-programs';

/** What of a node survives that it is unplugged: its disk. */
const onDisk = [
  ...['kubelet', 'containerd', 'cni', 'culvert', 'etcd'].map((name) => `/var/lib/${name}`),
  '/etc/cni/net.d',
  '/opt/cni/bin',
];

/** What the kubelet sets for the whole machine. It finds each as it wants it, in a file of the node, and leaves it alone. */
const settings: Readonly<Record<string, string>> = {
  'vm/overcommit_memory': '1',
  'vm/panic_on_oom': '0',
  'kernel/panic': '10',
  'kernel/panic_on_oops': '1',
  'kernel/keys/root_maxkeys': '1000000',
  'kernel/keys/root_maxbytes': '25000000',
};

/** Below the folder of a cluster. */
export function nodeDirectory(plan: ClusterPlan, { name }: NodePlan): string {
  return path.join(plan.directory, name);
}

/** The name that the first process of a node has in /proc as soon as the node is up. */
export const firstProcess = 'pause';

/**
 * A script of bash that becomes the first process of a node. It runs in new namespaces (mounts, processes, IPC, names) and in
 * the network namespace of the node. The node's root is an overlay over the machine's: what lands in its /etc, /opt or /run is
 * its own and goes with it.
 */
export function nodeScript(plan: ClusterPlan, node: NodePlan): string {
  const directory = nodeDirectory(plan, node);
  const own = path.join(directory, 'overlay');
  const root = path.join(own, 'root');
  const disk = path.join(directory, 'disk');
  const { cni, pause } = plan.programs.directories;
  const shared = [plan.directory, ...Object.values(plan.programs.directories)];
  const hosts = plan.nodes.map(({ ipv4, name }) => `${ipv4} ${name}`);
  return [
    'set -eu',
    mkdir(own, ...onDisk.map((name) => disk + name), `${disk}/log/pods`, `${disk}/log/containers`),
    `mount -t tmpfs tmpfs ${own}`,
    mkdir(`${own}/upper`, `${own}/work`, root),
    `mount -t overlay overlay -o lowerdir=/,upperdir=${own}/upper,workdir=${own}/work ${root}`,
    `mount --rbind /dev ${root}/dev`,
    `mount -t proc proc ${root}/proc`,
    `mount -t sysfs sysfs ${root}/sys`,
    `mount --rbind /sys/fs/cgroup ${root}/sys/fs/cgroup`,
    `mount -t tmpfs tmpfs ${root}/run`,
    `mount -t tmpfs tmpfs ${root}/tmp`,
    mkdir(`${root}/run/netns`, `${root}/run/lock`),
    ...shared.map((each) => bind(each, root + each, '--rbind')),
    bind(plan.declaredDirectory, root + declaredInNode),
    ...onDisk.map((name) => bind(disk + name, root + name)),
    ...['pods', 'containers'].map((name) => bind(`${disk}/log/${name}`, `${root}/var/log/${name}`)),
    mkdir(`${root}/etc/kube`),
    `cp ${cni}/* ${root}/opt/cni/bin/`,
    `rm -f ${root}/etc/hosts ${root}/etc/resolv.conf`,
    `printf '%s\\n' '127.0.0.1 localhost' ${hosts.map((line) => `'${line}'`).join(' ')} > ${root}/etc/hosts`,
    `echo 'nameserver 127.0.0.1' > ${root}/etc/resolv.conf`,
    ...Object.entries(settings).map(([name, value]) => fixSetting(root, name, value)),
    `hostname ${node.name}`,
    `cd ${root}`,
    'mkdir -p .old',
    'pivot_root . .old',
    `PATH=${declaredInNode}`,
    'cd /',
    'umount -l /.old',
    'rmdir /.old',
    'mount --make-rshared /',
    `exec ${pause}/${firstProcess}`,
  ].join('\n');
}

function fixSetting(root: string, name: string, value: string): string {
  const file = `${root}/run/setting-${name.replaceAll('/', '-')}`;
  return `echo ${value} > ${file}; mount --bind ${file} ${root}/proc/sys/${name}`;
}

function mkdir(...directories: readonly string[]): string {
  return `mkdir -p ${directories.join(' ')}`;
}

function bind(from: string, to: string, how = '--bind'): string {
  return `${mkdir(to)}; mount ${how} ${from} ${to}`;
}
