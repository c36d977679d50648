import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { requireSuccess } from '../lab/command.js';

/** Of the clone. */
export const cloneRoot = path.resolve(import.meta.dirname, '../../..');

/**
 * Installs what `npm pack` makes of this clone into the new directory `project`, offline. `directory`: for the tarball and
 * npm's cache. Returns the files of the package.
 */
export async function installPacked(o: {
  readonly directory: string;
  readonly project: string;
}): Promise<readonly string[]> {
  /** Without the registry, and with an empty cache. */
  const npm = async (argv: readonly string[], cwd: string): Promise<string> => {
    const env = { npm_config_cache: path.join(o.directory, 'cache'), npm_config_update_notifier: 'false' };
    return await requireSuccess(['npm', ...argv, '--offline', '--no-audit', '--no-fund'], {
      cwd,
      env,
      timeoutMs: 120_000,
    });
  };
  const packed = await npm(['pack', '--json', '--ignore-scripts', '--pack-destination', o.directory], cloneRoot);
  const [{ filename, version, files }] = JSON.parse(packed) as [Packed];
  copyDependencies(o.project);
  writeFileSync(path.join(o.project, 'package.json'), JSON.stringify({ dependencies: { culvert: version } }));
  // `npm install` of a tarball asks the registry for all dependencies, also for those that are there. So in its two steps.
  const target = path.join(o.project, 'node_modules/culvert');
  mkdirSync(target);
  await requireSuccess(['tar', '-xzf', path.join(o.directory, filename), '--strip-components=1', '-C', target]);
  await npm(['rebuild', 'culvert'], o.project);
  return files.map((file) => file.path);
}

type Packed = { readonly filename: string; readonly version: string; readonly files: readonly { path: string }[] };

/** What npm would take from the registry comes from this clone, where `npm ci` has put it: the same, and offline. */
function copyDependencies(project: string): void {
  mkdirSync(project, { recursive: true });
  const lock = JSON.parse(readFileSync(path.join(cloneRoot, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
  };
  const used = Object.entries(lock.packages).filter(([name, { dev }]) => name !== '' && dev !== true);
  for (const [name] of used) cpSync(path.join(cloneRoot, name), path.join(project, name), { recursive: true });
}
