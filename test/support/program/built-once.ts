import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';

/** Where the processes of one run keep what they build, set by `test/run.ts`, which removes it. */
export const buildsVariable = 'CULVERT_TEST_BUILDS';

export type Build = Disposable & { readonly directory: string };

/**
 * A directory with what `build` writes into the one that it gets. The processes of a run build each `name` once, whatever their
 * Node, and share it, so nothing in it may depend on who builds it or change later. A process that is in no run builds its own,
 * and disposing removes that. Throws what `build` throws, and leaves nothing then.
 */
export function builtOnce(name: string, build: (directory: string) => void): Build {
  const shared = process.env[buildsVariable];
  const wanted = shared === undefined ? null : path.join(shared, name);
  if (wanted !== null && existsSync(wanted)) return { directory: wanted, [Symbol.dispose]: () => undefined };
  const own = mkdtempSync(path.join(shared ?? tmpdir(), `culvert-${name}-`));
  try {
    build(own);
    if (wanted === null) {
      return { directory: own, [Symbol.dispose]: () => rmSync(own, { recursive: true, force: true }) };
    }
    renameSync(own, wanted);
  } catch (error) {
    rmSync(own, { recursive: true, force: true });
    // Two that build at once: the second uses what the first has built.
    if (wanted === null || !existsSync(wanted)) throw error;
  }
  return { directory: wanted, [Symbol.dispose]: () => undefined };
}
