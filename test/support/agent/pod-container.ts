import { randomBytes } from 'node:crypto';

/** What `culvert install` asks for, by the kind of privileges. */
export const podCapabilities = {
  whole: ['net_admin', 'sys_admin', 'chown', 'dac_override'],
  split: ['net_admin', 'sys_admin', 'chown', 'dac_override', 'setgid', 'setuid'],
} as const satisfies Record<string, readonly string[]>;

const mounts = ['/', '/run', '/tmp', '/var', '/home'];

/**
 * The words before a command line that start it as kubelet starts an agent's container: as the first process of namespaces of its
 * own, but for the network, in a cgroup of its own, with these capabilities as its bounding set, without new privileges, and
 * with a root that is read-only but for `writable`.
 */
export function inPodContainer(o: {
  readonly capabilities: readonly string[];
  readonly writable: readonly string[];
  readonly cgroup: string;
}): readonly string[] {
  const { capabilities, writable, cgroup } = o;
  const hierarchy = '/sys/fs/cgroup';
  const enter = [
    `mount -t cgroup2 none ${hierarchy}`,
    `mkdir ${hierarchy}${cgroup}`,
    `echo 0 > ${hierarchy}${cgroup}/cgroup.procs`,
    `umount ${hierarchy}`,
    'exec unshare --cgroup -- "$@"',
  ];
  const isolate = [
    `mount -t cgroup2 -o ro none ${hierarchy}`,
    'touch /run/xtables.lock',
    ...['/run/xtables.lock', '/run/netns', ...writable].map((path) => `mount --rbind ${path} ${path}`),
    // Some of them are mounts of their own, by the machine.
    ...mounts.map((path) => `mount -o remount,bind,ro ${path} 2>/dev/null || test ${path} != /`),
    'exec "$@"',
  ];
  const bounded = `--bounding-set=-all,${capabilities.map((name) => `+${name}`).join(',')}`;
  const unshare = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--'];
  const shell = (lines: readonly string[]): string[] => ['sh', '-ec', lines.join('\n'), 'sh'];
  return [
    ...unshare,
    ...shell(enter),
    ...shell(isolate),
    'setpriv',
    bounded,
    '--inh-caps=-all',
    '--no-new-privs',
    '--',
  ];
}

/** The path of a cgroup (v2) for {@link inPodContainer}. */
export function podCgroup(): string {
  return `/culvert-pod-${randomBytes(4).toString('hex')}`;
}
