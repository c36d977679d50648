import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { requireSuccess, runCommand, type CommandResult } from '../lab/command.js';
import { LabProcess } from '../lab/lab-process.js';
import { requireProgram, systemDirectories } from '../lab/requirements.js';
import { waitUntil } from '../lab/wait-until.js';
import { mirror, release } from './bare-machine.js';
import { cloneRoot, installPacked } from './packed-install.js';

/** Of Debian: systemd, and what the daemons start. */
const packages = ['systemd', 'dbus', 'iproute2', 'iptables', 'util-linux', 'libstdc++6', 'nats-server', 'procps'];
/** The programs of this process are links, which lead nowhere in there. */
const pathInside = systemDirectories.join(':');
/** Where the package of npm is in there. */
export const installed = '/usr/local/lib/culvert/node_modules/culvert';

/**
 * A Debian 12 that systemd has booted as process 1, in namespaces and a control group of its own, with the programs of
 * `npm pack` installed. It has no network but its own, writes no setting of this machine's kernel, and has its own devices.
 */
export class SystemdMachine implements AsyncDisposable {
  readonly #directory: string;
  readonly #name: string;
  #boot: LabProcess | null = null;
  #init = 0;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#name = path.basename(directory);
  }

  /** Downloads some 60 MB of packages the first time. Throws `REQUIREMENT_MISSING` and `COMMAND_FAILED`. */
  static async boot(): Promise<SystemdMachine> {
    const machine = new SystemdMachine(await mkdtemp(path.join(tmpdir(), 'culvert-systemd-')));
    try {
      await mkdir(machine.path('/'));
      await requireSuccess(['tar', '-xf', await cachedRoot(), '-C', machine.path('/')], { timeoutMs: 120_000 });
      await machine.#install();
      await machine.#start();
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Where a file of the machine is for this process; only on its disk, not in `/run` or `/tmp`. */
  path(absolute: string): string {
    return path.join(this.#directory, 'root', absolute);
  }

  /** Runs a script of bash in there, as root. */
  run(script: string, timeoutMs = 60_000): Promise<CommandResult> {
    const env = ['/usr/bin/env', '-i', `PATH=/usr/local/bin:${pathInside}`, 'HOME=/root', 'LC_ALL=C'];
    const argv = ['nsenter', '-t', String(this.#init), '--all', ...env, 'bash', '-ec', script];
    return runCommand(argv, { timeoutMs });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The kernel ends all of its processes with the first one, which ends with what started it.
    await this.#boot?.stop('SIGKILL');
    if (this.#boot !== null) await this.#removeGroups();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #install(): Promise<void> {
    const project = this.path(path.resolve(installed, '../..'));
    await installPacked({ directory: this.#directory, project });
    await mkdir(this.path('/usr/local/bin'), { recursive: true });
    await cp(process.execPath, this.path('/usr/local/bin/node'));
    for (const program of ['culvert', 'culvert-agent', 'culvert-controller']) {
      await symlink(`${path.resolve(installed, '..')}/.bin/${program}`, this.path(`/usr/local/bin/${program}`));
    }
    await cp(path.join(cloneRoot, 'deploy/systemd'), this.path(`${installed}/deploy/systemd`), { recursive: true });
    await writeFile(this.path('/etc/hosts'), '127.0.0.1 localhost controller.example.net\n');
    await writeFile(this.path('/etc/hostname'), 'culvert-systemd\n');
    const units = this.path('/etc/systemd/system');
    await symlink('/dev/null', path.join(units, 'console-getty.service'));
  }

  async #start(): Promise<void> {
    const own = ['--mount', '--propagation', 'private', '--pid', '--net', '--uts', '--ipc', '--fork', '--kill-child'];
    const argv = ['unshare', ...own, 'bash', '-ec', bootScript, this.path('/'), this.#name, pathInside];
    const boot = await LabProcess.start(argv);
    this.#boot = boot;
    this.#init = await waitUntil('process 1 runs', async () => {
      boot.requireRunning();
      return await childOf(boot.pid);
    });
    await waitUntil(
      'systemd has booted',
      async () => {
        boot.requireRunning();
        const { stdout, stderr } = await this.run('systemctl is-system-running || true');
        if (/^(?:running|degraded)$/m.test(stdout)) return true;
        throw new Error(`it is ${stdout}${stderr}`);
      },
      90_000,
    );
  }

  /** systemd leaves its control groups behind when it is killed. */
  async #removeGroups(): Promise<void> {
    const script = `
mount -t cgroup2 cgroup2 "$0/mnt" || exit 1
for each in $(seq 100); do
  chroot "$0" /usr/bin/find "/mnt/$1" -depth -type d -exec /usr/bin/rmdir {} \\; 2>/dev/null
  [ -e "$0/mnt/$1" ] || exit 0
  sleep 0.1
done
exit 1`;
    const argv = ['unshare', '--mount', '--propagation', 'private', 'bash', '-c', script];
    await requireSuccess([...argv, this.path('/'), this.#name], { timeoutMs: 60_000 });
  }
}

/** Makes the mounts of a machine and becomes its process 1. `$0`: its root, `$1`: name of its control group, `$2`: its PATH. */
const bootScript = `
cd /
mount --bind "$0" "$0"
for each in proc:proc sysfs:sys tmpfs:run tmpfs:tmp tmpfs:dev; do mount -t "\${each%%:*}" "\${each%%:*}" "$0/\${each#*:}"; done
# A control group of its own first, which is then the root of all that systemd sees.
mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
mkdir "$0/sys/fs/cgroup/$1"
echo 0 > "$0/sys/fs/cgroup/$1/cgroup.procs"
umount "$0/sys/fs/cgroup"
chroot "$0" /usr/bin/env "PATH=$2" sh -ec '
while read -r name major minor; do mknod -m 666 "/dev/$name" c "$major" "$minor"; done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
END
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr; ln -s pts/ptmx /dev/ptmx
mkdir -p /dev/pts /dev/shm /mnt'
chmod 755 "$0/run" "$0/dev"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$0/dev/pts"
mount -t tmpfs tmpfs "$0/dev/shm"
# The settings of the kernel are the machine's, but for those of the network namespace.
mount --bind "$0/proc/sys" "$0/proc/sys"
mount --bind "$0/proc/sys/net" "$0/proc/sys/net"
mount -o remount,bind,ro "$0/proc/sys"
cd "$0"
pivot_root . mnt
exec /usr/bin/env "PATH=$2" unshare --cgroup bash -ec '
mount -t cgroup2 cgroup2 /sys/fs/cgroup
umount -l /mnt
exec env -i container=other "PATH=$PATH" \\
  setpriv --bounding-set=-sys_time,-sys_module,-sys_boot,-sys_rawio /lib/systemd/systemd --system'
`;

/** The packages as `mmdebstrap` unpacks them, made once for this user of this machine. */
async function cachedRoot(): Promise<string> {
  requireProgram('mmdebstrap');
  const options = ['--variant=minbase', '--mode=root', `--include=${packages.join(',')}`];
  for (const each of ['doc', 'man', 'locale', 'info']) options.push(`--dpkgopt=path-exclude=/usr/share/${each}/*`);
  const key = createHash('sha256')
    .update([release, ...options].join('\n'))
    .digest('hex')
    .slice(0, 12);
  const { XDG_CACHE_HOME: cache = path.join(homedir(), '.cache') } = process.env;
  const file = path.join(cache, 'culvert-tests', `${release}-systemd-${key}.tar`);
  if (existsSync(file)) return file;
  await mkdir(path.dirname(file), { recursive: true });
  const own = `${file}.${process.pid}.tar`;
  try {
    // It works with whatever the machine has, as apt does.
    const env = { PATH: systemDirectories.join(':') };
    await requireSuccess(['mmdebstrap', ...options, release, own, ...(await mirror())], { timeoutMs: 300_000, env });
    await rename(own, file);
  } finally {
    await rm(own, { force: true });
  }
  return file;
}

async function childOf(parent: number): Promise<number | undefined> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '');
    if (new RegExp(`^PPid:\\t${parent}$`, 'm').test(status)) return Number(name);
  }
  return undefined;
}
