import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import nodeModule from 'node:module';
import path from 'node:path';
import process from 'node:process';
import { labUser } from '../lab/programs.js';

/** Since Node 22.1; the types are those of Node 20. */
type CompileCaching = {
  readonly enableCompileCache?: (directory: string) => unknown;
  /** That of this version of Node, below the directory of the call above. */
  readonly getCompileCacheDir?: () => string | undefined;
};

/** Node reads it at its start. */
const variable = 'NODE_COMPILE_CACHE';

/**
 * Has this process and all that it starts keep what they compiled, in a directory below `parent`, which the caller removes: a
 * run starts hundreds of processes with the same files. An agent becomes the lab's user before it loads most of its code and
 * keeps it when it ends, so the directory belongs to that user; nothing else can enter it. A lane uses that of the run which has
 * started it. Node 20 knows no such directory.
 */
export function keepCompiled(parent: string): void {
  const kept = path.join(parent, 'compiled');
  mkdirSync(kept, { mode: 0o700 });
  const { enableCompileCache, getCompileCacheDir } = nodeModule as CompileCaching;
  enableCompileCache?.(kept);
  const ofVersion = getCompileCacheDir?.();
  // Enabled from the start, by the variable.
  if (ofVersion !== undefined && path.dirname(ofVersion) !== kept) return;
  process.env[variable] = kept;
  if (ofVersion === undefined || process.geteuid?.() !== 0) return;
  chmodSync(parent, 0o711);
  for (const directory of [kept, ofVersion]) chownSync(directory, labUser.uid, labUser.gid);
}
