import { existsSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Requirement, requirementsOf, type RunKind } from './declared-programs.js';
import { findInstalled } from './requirements.js';

const prefix = 'culvert-programs-';

/** The PATH of a run: a directory with a link to each declared program, and nothing else. */
export class DeclaredPath implements Disposable {
  readonly directory: string;
  readonly #before = process.env['PATH'];

  private constructor(directory: string) {
    this.directory = directory;
  }

  /**
   * Makes this process, and so everything that it starts, find the programs of a run and no other. Programs that are not
   * installed are left out; what needs one says so. The Node of this process is `node`; npm comes with the Node that the
   * machine has. Disposing it, or the end of the process, removes the directory.
   */
  static enter(run: RunKind): DeclaredPath {
    removeStale();
    const entered = new DeclaredPath(mkdtempSync(path.join(tmpdir(), `${prefix}${process.pid}-`)));
    process.once('exit', () => entered[Symbol.dispose]());
    entered.#link('node', process.execPath);
    // They come with Node.
    for (const command of ['npm', 'npx']) entered.#linkInstalled(command);
    for (const { command } of requirementsOf(run)) entered.#linkInstalled(command);
    process.env['PATH'] = entered.directory;
    return entered;
  }

  /** Adds programs that a file of the user names, such as the comparators of a benchmark. */
  add(requirements: readonly Requirement[]): void {
    for (const { command } of requirements) if (!command.includes('/')) this.#linkInstalled(command);
  }

  [Symbol.dispose](): void {
    if (this.#before === undefined) delete process.env['PATH'];
    else process.env['PATH'] = this.#before;
    rmSync(this.directory, { recursive: true, force: true });
  }

  #linkInstalled(command: string): void {
    const found = findInstalled(command, this.#before);
    // Its own file: another link may lead nowhere in a mount namespace.
    if (found !== null) this.#link(command, realpathSync(found));
  }

  #link(command: string, target: string): void {
    const link = path.join(this.directory, command);
    if (!existsSync(link)) symlinkSync(target, link);
  }
}

/** Directories of runs that were killed. */
function removeStale(): void {
  for (const name of readdirSync(tmpdir()).filter((each) => each.startsWith(prefix))) {
    const [, pid] = /^(\d+)-/.exec(name.slice(prefix.length)) ?? [];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(path.join(tmpdir(), name), { recursive: true, force: true });
  }
}
