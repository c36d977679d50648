import { mkdirSync, rmSync, statfsSync, symlinkSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { CulvertError } from '../../../shared/errors.js';
import { type Component, type ComponentName, componentsOf, versionOf } from './components.js';
import { goBuild, goEnvironment, requireGo, requireModules } from './go-command.js';
import { ProgramCache } from './program-cache.js';
import { seccompEnvironment } from './seccomp-library.js';

/** What building all of it takes on the disk at most. 0.4 GB stay. */
const neededBytes = 8e9;

/** Where the programs of a cluster are, and of which versions. */
export type ClusterPrograms = {
  /** The minor version of Kubernetes, such as `1.37`. */
  readonly minor: string;
  readonly directories: Readonly<Record<ComponentName, string>>;
  /** `kubernetes 1.37.2`, … */
  readonly versions: readonly string[];
};

export type BuildOptions = {
  readonly minor: string;
  /** How many packages Go compiles at once; default: one for each core. */
  readonly jobs?: number;
  readonly log: (line: string) => void;
};

/**
 * Builds the programs of a cluster that the cache does not have, and returns where all of them are. Needs neither root nor
 * an installation. Throws `GO_MISSING`, `GO_TOO_OLD`, `GO_NETWORK`, `GO_BUILD`, `DISK_FULL` and `KUBERNETES_MINOR`.
 */
export async function buildPrograms({
  minor,
  jobs = availableParallelism(),
  log,
}: BuildOptions): Promise<ClusterPrograms> {
  const cache = new ProgramCache();
  const components = componentsOf(minor);
  if (!components.every((component) => cache.has(component))) {
    using _ = await cache.lock(() => log('another process builds; this one waits for it'));
    const missing = components.filter((component) => !cache.has(component));
    const env = goEnvironment(cache);
    requireDisk(cache, missing);
    await requireGo(missing, env);
    const [first] = missing.filter(({ module }) => module !== undefined);
    if (first !== undefined) await requireModules(first, env, cache.directory);
    for (const component of missing) {
      const startedAt = performance.now();
      const name = nameOf(component);
      log(`building ${name}`);
      const progress = (text: string): void => log(`  ${name}: ${secondsSince(startedAt)} s, ${text}`);
      await cache.make(component, (directory) => build({ component, directory, cache, jobs, env, progress }));
      log(`built ${name} in ${secondsSince(startedAt)} s`);
    }
    // After a build that failed they stay, so that the next one goes on from there.
    rmSync(cache.goDirectory, { recursive: true, force: true });
  }
  const directories = Object.fromEntries(components.map((component) => [component.name, cache.entry(component)]));
  return {
    minor,
    directories: directories as Record<ComponentName, string>,
    versions: components.filter(({ module }) => module !== undefined).map(nameOf),
  };
}

async function build(o: {
  readonly component: Component;
  readonly directory: string;
  readonly cache: ProgramCache;
  readonly jobs: number;
  readonly env: Readonly<Record<string, string>>;
  readonly progress: (text: string) => void;
}): Promise<void> {
  const { component, directory, cache, jobs, env, progress } = o;
  const { program, packages, links = [], needsSeccomp = false } = component;
  const own = needsSeccomp ? await seccompEnvironment(path.join(cache.goDirectory, 'seccomp')) : {};
  const variables = Object.entries(component.variables?.(versionOf(component)) ?? {});
  const linker = ['-s', '-w', ...variables.map(([name, value]) => `-X ${name}=${value}`)];
  if (needsSeccomp) linker.push('-linkmode external', '-extldflags -static');
  mkdirSync(path.join(cache.goDirectory, 'tmp'), { recursive: true });
  const argv = [
    '-mod=readonly',
    '-modcacherw',
    '-trimpath',
    '-buildvcs=false',
    `-p=${jobs}`,
    ...(needsSeccomp ? ['-tags=seccomp,netgo,osusergo'] : []),
    `-ldflags=${linker.join(' ')}`,
    `-o=${path.join(directory, program ?? '/')}`,
    ...packages,
  ];
  const tmp = { GOTMPDIR: path.join(cache.goDirectory, 'tmp') };
  await goBuild({ argv, cwd: component.directory, env: { ...env, ...tmp, ...own }, progress });
  for (const name of links) symlinkSync(program ?? '', path.join(directory, name));
}

function requireDisk(cache: ProgramCache, missing: readonly Component[]): void {
  mkdirSync(cache.directory, { recursive: true });
  const { bavail, bsize } = statfsSync(cache.directory);
  if (!missing.some(({ name }) => name === 'kubernetes') || bavail * bsize >= neededBytes) return;
  const free = Math.floor((bavail * bsize) / 1e9);
  const message = `${cache.directory} has ${free} GB free; building takes up to 8 GB, of which 0.4 stay.`;
  const hint = 'CULVERT_KUBERNETES_CACHE names another folder';
  throw new CulvertError({ code: 'DISK_FULL', message, hint });
}

function nameOf(component: Component): string {
  return `${component.name} ${versionOf(component).slice(1)}`.trim();
}

function secondsSince(startedAt: number): string {
  return ((performance.now() - startedAt) / 1000).toFixed(0);
}
