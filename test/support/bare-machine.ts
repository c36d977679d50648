import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { CommandResult } from '../lab/command.js';
import { requireSuccess, runCommand } from '../lab/command.js';
import { findCommand, requireProgram, systemDirectories } from '../lab/requirements.js';

/** Debian 12. */
export const release = 'bookworm';

/**
 * A directory with what a fresh Debian 12 has, and Node with npm: no tool of this project, and no package that it needs. The
 * programs of a command see it as their whole file system; what they leave running ends with the command.
 */
export class BareMachine implements AsyncDisposable {
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Downloads some 40 MB of packages. Throws `REQUIREMENT_MISSING` and `COMMAND_FAILED`. */
  static async create(): Promise<BareMachine> {
    requireProgram('mmdebstrap');
    const machine = new BareMachine(await mkdtemp(path.join(tmpdir(), 'culvert-bare-')));
    try {
      // It mounts /proc, /sys and /dev/shm of this machine in there. They end with their namespace, also when it is killed, so
      // that the folder can be removed without a way into them.
      const apart = ['unshare', '--mount', '--propagation', 'private'];
      const made = ['mmdebstrap', '--variant=minbase', '--mode=root', release, machine.#root, ...(await mirror())];
      const argv = [...apart, ...made];
      // It works with whatever the machine has, as apt does.
      await requireSuccess(argv, { timeoutMs: 300_000, env: { PATH: systemDirectories.join(':') } });
      await machine.#addNode();
      await cp('/etc/resolv.conf', machine.path('/etc/resolv.conf'));
      await machine.#addNpmSettings();
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Where a file of the machine is for this process. */
  path(absolute: string): string {
    return path.join(this.#root, absolute);
  }

  /** What `git clone` gives, with the npm packages that this clone has, so that those are not downloaded. */
  async addClone(absolute: string): Promise<void> {
    const leftOut = new Set(['.git', 'dist'].map((name) => path.resolve(name)));
    const filter = (from: string): boolean => !leftOut.has(path.resolve(from));
    await cp('.', this.path(absolute), { recursive: true, verbatimSymlinks: true, filter });
  }

  /**
   * Runs a shell script as root. `network`: `host` can reach the sources of packages; `none` is a namespace of its own with
   * loopback, for everything that makes interfaces or rules.
   */
  run(
    script: string,
    options: { readonly network: 'host' | 'none'; readonly timeoutMs: number },
  ): Promise<CommandResult> {
    const searchPath = systemDirectories.join(':');
    const mounts = [
      'mount --bind "$0" "$0"',
      'for each in proc:proc:proc sysfs:sys:sys tmpfs:run:run tmpfs:tmp:tmp; do',
      '  IFS=: read -r type name target <<<"$each"; mount -t "$type" "$name" "$0/$target"',
      'done',
      'mount --rbind /dev "$0/dev"',
      // Debian's init mounts it.
      'mount --rbind /sys/fs/cgroup "$0/sys/fs/cgroup"',
      // Not chroot: who enters the mounts of a process would see the file system of the real machine.
      'cd "$0"; pivot_root . .',
      `exec /usr/bin/env -i PATH=${searchPath} HOME=/root LC_ALL=C CI=true /bin/sh -ec "umount -l /; cd /; $1"`,
    ];
    const own = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child'];
    const net = options.network === 'none' ? ['--net'] : [];
    // Before "ip" exists in there.
    const up = options.network === 'none' ? 'ip link set lo up\n' : '';
    const argv = ['unshare', ...own, ...net, 'bash', '-ec', `${up}${mounts.join('\n')}`, this.#root, script];
    return runCommand(argv, { timeoutMs: options.timeoutMs });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#root, { recursive: true, force: true });
  }

  async #addNode(): Promise<void> {
    const modules = '/usr/local/lib/node_modules';
    await mkdir(this.path(modules), { recursive: true });
    await cp(process.execPath, this.path('/usr/local/bin/node'));
    // …/npm/bin/npm-cli.js
    const npm = path.dirname(path.dirname(await realpath(findCommand('npm') ?? 'npm')));
    await cp(npm, this.path(`${modules}/npm`), { recursive: true });
    await symlink(`${modules}/npm/bin/npm-cli.js`, this.path('/usr/local/bin/npm'));
    await writeFile(this.path('/etc/hosts'), '127.0.0.1 localhost\n::1 localhost\n');
  }

  /** The registry that the machine's own npm installs from, and the CA that npm trusts there. */
  async #addNpmSettings(): Promise<void> {
    const setting = async (key: string): Promise<string> =>
      (await requireSuccess(['npm', 'config', 'get', key])).trim();
    const lines = [`registry=${await setting('registry')}`];
    const cafile = await setting('cafile');
    if (existsSync(cafile)) {
      await cp(cafile, this.path('/root/npm-ca.pem'), { dereference: true });
      lines.push('cafile=/root/npm-ca.pem');
    }
    await writeFile(this.path('/root/.npmrc'), `${lines.join('\n')}\n`);
  }
}

/** The mirror that the machine itself installs Debian's packages from; none: what mmdebstrap uses by itself. */
export async function mirror(): Promise<string[]> {
  for (const file of ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list']) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const found = /^(?:URIs:|deb(?: \[[^\]]*\])?) +(https?:\/\/\S+\/debian\/?)(?:\s|$)/m.exec(text)?.[1];
    if (found !== undefined) return [found];
  }
  return [];
}
