import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { CommandOptions, CommandResult } from '../../lab/command.js';
import type { LabNode } from '../../lab/lab-node.js';
import type { LabProcess } from '../../lab/lab-process.js';
import { findCommand } from '../../lab/requirements.js';

/** To "$0". Without /etc/netns: what is in there belongs to all labs of this machine, and goes with them at any moment. */
const copyOfEtc = `
for each in /etc/* /etc/.[!.]*; do
  test "$each" = /etc/netns || ! test -e "$each" -o -L "$each" || set -- "$@" "$each"
done
cp -a "$@" "$0"`;

/**
 * The machine of a reader of the README: a host of a lab with a /usr/local/bin and share, /etc and /var/lib of its own, so
 * that commands run as they are written and leave nothing on the real machine.
 */
export class ReaderMachine {
  readonly name: string;
  readonly #node: LabNode;
  readonly #directory: string;
  readonly #cwd: string;
  readonly #programs: string;
  readonly #namespaces: ReadonlyMap<string, string>;
  readonly #exports: string[] = [];

  private constructor(init: {
    node: LabNode;
    directory: string;
    cwd: string;
    programs: string;
    namespaces: ReadonlyMap<string, string>;
  }) {
    this.name = init.node.name;
    this.#node = init.node;
    this.#directory = init.directory;
    this.#cwd = init.cwd;
    this.#programs = init.programs;
    this.#namespaces = init.namespaces;
  }

  /**
   * `programs` is the /usr/local/bin that all machines of a test share. `namespaces` says which namespaces (their paths) are
   * in /run/netns, and under which names. `hosts` is added to /etc/hosts.
   */
  static async create(init: {
    readonly node: LabNode;
    readonly directory: string;
    readonly cwd: string;
    readonly programs: string;
    readonly namespaces?: ReadonlyMap<string, string>;
    readonly hosts?: string;
  }): Promise<ReaderMachine> {
    const { node, cwd, programs, namespaces = new Map<string, string>(), hosts = '' } = init;
    const directory = path.join(init.directory, node.name);
    for (const name of ['lib', 'netns', 'etc', 'share']) await mkdir(path.join(directory, name), { recursive: true });
    for (const name of namespaces.keys()) await writeFile(path.join(directory, 'netns', name), '');
    await node.check(['sh', '-ec', copyOfEtc, path.join(directory, 'etc')]);
    await removeUser(path.join(directory, 'etc'));
    await node.check(['sh', '-c', `printf '%s' "$1" >> "$2"`, 'sh', hosts, path.join(directory, 'etc', 'hosts')]);
    await mkdir(path.join(directory, 'etc', 'culvert'), { recursive: true });
    return new ReaderMachine({ node, directory, cwd, programs, namespaces });
  }

  /** Where a file of this machine is for the test. */
  file(absolute: '/etc' | '/var/lib', ...rest: readonly string[]): string {
    return path.join(this.#directory, absolute === '/etc' ? 'etc' : 'lib', ...rest);
  }

  /** Runs a command to its end. What it exports is there for the next one. */
  async run(command: string, options: CommandOptions = {}): Promise<CommandResult> {
    if (command.startsWith('export ')) this.#exports.push(command);
    return this.#node.exec(this.#argv(command), { timeoutMs: 60_000, ...options });
  }

  /** Starts a command that runs on. */
  async start(command: string): Promise<LabProcess> {
    return this.#node.spawn(this.#argv(`exec ${command}`));
  }

  #argv(command: string): string[] {
    const mounts = [
      ...[...this.#namespaces].map(([name, source]) => `mount --bind ${source} ${this.#directory}/netns/${name}`),
      `mount --rbind ${this.#directory}/netns /run/netns`,
      `mount --bind /usr/local/bin ${this.#programs}-original`,
      `mount --bind ${this.#programs} /usr/local/bin`,
      `mount --bind ${this.#directory}/etc /etc`,
      `mount --bind ${this.#directory}/lib /var/lib`,
      `mount --bind ${this.#directory}/share /usr/local/share`,
      `cd ${this.#cwd}`,
      `export PATH=${process.env['PATH']}:/usr/local/bin`,
      ...this.#exports,
    ];
    return ['unshare', '-m', 'bash', '-ec', [...mounts, command].join('\n')];
  }
}

/** Culvert may be installed on this machine, and the reader has not come that far yet. */
async function removeUser(etc: string): Promise<void> {
  for (const name of ['passwd', 'shadow', 'group', 'gshadow']) {
    const file = path.join(etc, name);
    const text = await readFile(file, 'utf8').catch(() => null);
    if (text !== null) await writeFile(file, text.replaceAll(/^culvert-agent:.*\n/gm, ''));
  }
}

/**
 * A /usr/local/bin with those programs of the PATH that the machine has there, to which a reader can add links. Returns its
 * path.
 */
export async function sharedPrograms(directory: string): Promise<string> {
  const programs = path.join(directory, 'bin');
  await mkdir(programs);
  await mkdir(`${programs}-original`);
  for (const name of await readdir('/usr/local/bin')) {
    if (!name.startsWith('culvert') && findCommand(name) !== null)
      await symlink(`${programs}-original/${name}`, path.join(programs, name));
  }
  return programs;
}
