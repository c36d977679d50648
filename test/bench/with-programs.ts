import process from 'node:process';
import { DeclaredPath } from '../lab/declared-path.js';
import { requirementsOf } from '../lab/declared-programs.js';
import { ensureRequirements } from '../lab/install-requirements.js';

/**
 * The action of a command that first installs what the benchmark starts (`REQUIREMENT_MISSING` when that fails), and then runs
 * with a PATH of exactly that.
 */
export function withPrograms<Options>(
  run: (options: Options, programs: DeclaredPath) => Promise<void>,
): (options: Options) => Promise<void> {
  return async (options) => {
    const log = (line: string): void => void process.stderr.write(`# ${line}\n`);
    await ensureRequirements({ install: true, log, requirements: requirementsOf('bench') });
    using programs = DeclaredPath.enter('bench');
    await run(options, programs);
  };
}
