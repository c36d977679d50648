import { createHash } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { isAlive, thisProcess, type LabOwner } from '../../lab/lab-owner.js';
import { type Component, versionOf } from './components.js';

/** Part of the key of each entry: raised when the way in which programs are built changes. */
const recipe = 1;

/**
 * The folder that keeps what was built, for all runs of this user: `CULVERT_KUBERNETES_CACHE`, or one below the user's cache
 * directory. It has an entry for each component, named by a hash of the component's module; it can be removed at any time.
 */
export class ProgramCache {
  readonly directory: string;

  constructor(directory = defaultDirectory()) {
    this.directory = path.resolve(directory);
  }

  /** Where Go keeps its own caches while something is built; removed when nothing is left to build. */
  get goDirectory(): string {
    return path.join(this.directory, 'go');
  }

  /** The folder of a component's programs. It exists only when all of them are there. */
  entry(component: Component): string {
    const hash = createHash('sha256').update(`${recipe} ${process.arch}\n`);
    for (const name of readdirSync(component.directory).sort()) {
      hash.update(`${name}\n`).update(readFileSync(path.join(component.directory, name)));
    }
    const name = [component.name, versionOf(component).slice(1), hash.digest('hex').slice(0, 12)];
    return path.join(this.directory, name.filter((part) => part !== '').join('-'));
  }

  has(component: Component): boolean {
    return existsSync(this.entry(component));
  }

  /**
   * Makes this process the only one that builds here, until the result is disposed of. `waits` is called once when another
   * one does. The lock of a process that has ended does not count, and what it was making is removed.
   */
  async lock(waits: () => void): Promise<Disposable> {
    mkdirSync(this.directory, { recursive: true });
    const file = path.join(this.directory, 'lock');
    for (let isFirst = true; !claim(file); isFirst = false) {
      if (isFirst) waits();
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    for (const name of readdirSync(this.directory).filter((each) => each.endsWith('.new'))) {
      rmSync(path.join(this.directory, name), { recursive: true });
    }
    return { [Symbol.dispose]: () => rmSync(file, { force: true }) };
  }

  /** Makes the entry of a component, under the lock: `make` fills a new folder, which then becomes the entry in one step. */
  async make(component: Component, make: (directory: string) => Promise<void>): Promise<void> {
    const entry = this.entry(component);
    const directory = `${entry}.new`;
    mkdirSync(directory);
    try {
      await make(directory);
      renameSync(directory, entry);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }
}

/** Whether the lock is now this process's. One of a process that has ended is removed. */
function claim(lock: string): boolean {
  const own = `${lock}.${process.pid}`;
  writeFileSync(own, JSON.stringify(thisProcess()));
  try {
    linkSync(own, lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const owner = readOwner(lock);
    if (owner !== null && !isAlive(owner)) rmSync(lock, { force: true });
    return false;
  } finally {
    rmSync(own, { force: true });
  }
}

function readOwner(lock: string): LabOwner | null {
  try {
    return JSON.parse(readFileSync(lock, 'utf8')) as LabOwner;
  } catch {
    // It was removed meanwhile.
    return null;
  }
}

function defaultDirectory(): string {
  const { CULVERT_KUBERNETES_CACHE: chosen, XDG_CACHE_HOME: base } = process.env;
  if (chosen !== undefined && chosen !== '') return chosen;
  const cache = base === undefined || base === '' ? path.join(homedir(), '.cache') : base;
  return path.join(cache, 'culvert', 'kubernetes');
}
