import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../shared/errors.js';

/** What the programs are made of (`deploy/bundle.mjs`), below the folder of the build. */
const parts = ['agent', 'controller', 'shared'];

/**
 * Labs run the programs of dist/programs. `tsc` alone, which is enough for unit tests, does not make them. Throws
 * `PROGRAMS_STALE` when the build has a module that is newer than they are.
 */
export function requireFreshPrograms(builtDirectory: string): void {
  const bundledAtMs = statSync(path.join(builtDirectory, 'programs'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  for (const part of parts) {
    for (const file of readdirSync(path.join(builtDirectory, part), { recursive: true, encoding: 'utf8' })) {
      const full = path.join(builtDirectory, part, file);
      if (!file.endsWith('.js') || statSync(full).mtimeMs <= bundledAtMs) continue;
      throw new CulvertError({
        code: 'PROGRAMS_STALE',
        message: `${full} is newer than the programs in dist/programs`,
        hint: 'run: npm run build',
      });
    }
  }
}
