import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { CulvertError, describeError } from '../../shared/errors.js';
import { ensureRequirements } from '../lab/install-requirements.js';
import type { DeclaredPath } from '../lab/declared-path.js';
import type { Requirement } from '../lab/declared-programs.js';
import { isMissing } from '../lab/requirements.js';
import { type Adapter, readAdapter } from './adapter-file.js';
import { maxAdapters } from './bench-ports.js';

const builtIn = fileURLToPath(new URL('../../../test/bench/adapters/', import.meta.url));

/** The adapters of test/bench/adapters and the given files. Throws `BENCH_ADAPTER`. */
export function readAdapters(files: readonly string[]): Adapter[] {
  const own = readdirSync(builtIn)
    .filter((name) => name.endsWith('.yaml'))
    .sort();
  const adapters = [...own.map((name) => path.join(builtIn, name)), ...files].map(readAdapter);
  const names = adapters.map(({ name }) => name);
  const twice = names.find((name, at) => names.indexOf(name) !== at || name === 'culvert' || name === 'direct');
  if (twice !== undefined) {
    throw new CulvertError({ code: 'BENCH_ADAPTER', message: `The name "${twice}" is taken.`, hint: 'choose another' });
  }
  if (adapters.length > maxAdapters) {
    throw new CulvertError({ code: 'BENCH_ADAPTER', message: `There is room for ${maxAdapters} adapters.` });
  }
  return adapters;
}

/**
 * The adapters whose programs are installed, after installing those with a package and adding them to the PATH. `log` receives
 * the others.
 */
export async function installAdapters(
  adapters: readonly Adapter[],
  programs: DeclaredPath,
  log: (line: string) => void,
): Promise<Adapter[]> {
  const installable = adapters.map(requirementOf).filter(({ packages }) => packages.length > 0);
  await ensureRequirements({ install: true, log, requirements: installable }).catch((error: unknown) =>
    log(describeError(error)),
  );
  programs.add(adapters.map(requirementOf));
  return adapters.filter((adapter) => {
    const requirement = requirementOf(adapter);
    if (!isMissing(requirement)) return true;
    log(`left out: ${adapter.title}, because there is no program "${requirement.command}"`);
    return false;
  });
}

function requirementOf({ title, program: { command, packages, file } }: Adapter): Requirement {
  return { command, packages, why: `a comparator: ${title}`, ...(file === undefined ? {} : { file }) };
}
