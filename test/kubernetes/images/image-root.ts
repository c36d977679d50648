import { cpSync, mkdirSync, readdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../../shared/errors.js';
import { requireSuccess, runCommand } from '../../lab/command.js';
import { findCommand, requireProgram } from '../../lab/requirements.js';

/** The file system of an image, or of a layer of one, as a folder: programs of this machine with their libraries. */
export class ImageRoot {
  readonly directory: string;
  /** Absolute paths in the image that this layer or one below it has. */
  readonly #paths: Set<string>;

  /** `below`: what this layer lies on, whose files it leaves out. The folder is new, and the caller's to remove. */
  constructor(directory: string, below?: ImageRoot) {
    this.directory = directory;
    this.#paths = new Set(below === undefined ? [] : below.#paths);
    mkdirSync(directory, { recursive: true });
  }

  /** Adds programs of the PATH as `/usr/bin/NAME`, with their libraries. Throws `REQUIREMENT_MISSING`. */
  async addCommands(commands: readonly string[]): Promise<void> {
    const programs = commands.map((command) => {
      requireProgram(command);
      return [realpathSync(findCommand(command) ?? command), `/usr/bin/${command}`] as const;
    });
    await this.addPrograms(Object.fromEntries(programs));
  }

  /** Adds programs or libraries (by their file here, where they are in the image) with the libraries that they load. */
  async addPrograms(programs: Readonly<Record<string, string>>): Promise<void> {
    for (const [from, to] of Object.entries(programs)) this.addFile(from, to);
    // It says nothing of a static program and then ends with 1.
    const { stdout } = await runCommand(['ldd', ...Object.keys(programs)], { timeoutMs: 60_000 });
    // A line that ends with a colon names one of the programs.
    for (const [library] of stdout.matchAll(/\/\S+\.so[^\s:]*(?!\S*:)/g)) this.addFile(library, library);
  }

  addFile(from: string, to: string): void {
    if (this.#paths.has(to)) return;
    this.#paths.add(to);
    cpSync(from, this.#make(to), { dereference: true, recursive: true });
  }

  write(to: string, text: string, mode = 0o644): void {
    this.#paths.add(to);
    writeFileSync(this.#make(to), text, { mode });
  }

  link(to: string, target: string): void {
    if (this.#paths.has(to)) return;
    this.#paths.add(to);
    symlinkSync(target, this.#make(to));
  }

  makeDirectory(to: string): void {
    mkdirSync(path.join(this.directory, to), { recursive: true });
  }

  /** The folder as an archive that depends on its content alone. */
  async pack(file: string): Promise<void> {
    const same = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0'];
    await requireSuccess(['tar', '-C', this.directory, ...same, '-cf', file, ...readdirSync(this.directory)], {
      timeoutMs: 120_000,
    });
  }

  #make(to: string): string {
    const target = path.join(this.directory, to);
    mkdirSync(path.dirname(target), { recursive: true });
    return target;
  }
}

/** Where iptables keeps the code of its matches and targets. Throws `REQUIREMENT_MISSING`. */
export function xtablesDirectory(): string {
  const roots = ['/usr/lib', ...readdirSync('/usr/lib').map((name) => `/usr/lib/${name}`)];
  const found = roots.map((root) => path.join(root, 'xtables')).find(hasExtensions);
  if (found !== undefined) return found;
  const message = 'Missing: the extensions of iptables (xtables/libxt_comment.so).';
  throw new CulvertError({ code: 'REQUIREMENT_MISSING', message, hint: 'install the package iptables' });
}

function hasExtensions(directory: string): boolean {
  try {
    return readdirSync(directory).includes('libxt_comment.so');
  } catch {
    return false;
  }
}
