import { Command } from 'commander';
import { describeError } from '../../shared/errors.js';
import { attackCommand } from './attack-command.js';
import { benchCommand } from './bench-command.js';
import { addBenchOptions } from './bench-options.js';
import { clusterCommand } from './cluster-command.js';
import { rulesCommand } from './rules-command.js';
import { scaleCommand } from './scale-command.js';
import { withPrograms } from './with-programs.js';
import { workersCommand } from './workers-command.js';

/**
 * `npm run bench`: measures the mesh, the direct path and pairs of other proxies in one run and one lab. Figures of two runs
 * are not comparable; ratios within one run are.
 */
const program = addBenchOptions(new Command('bench'))
  .description('Compares the mesh with other proxies in a lab, as ratios (needs root).')
  // Options after a command belong to that command.
  .enablePositionalOptions()
  .action(withPrograms(benchCommand))
  .addCommand(attackCommand())
  .addCommand(clusterCommand())
  .addCommand(rulesCommand())
  .addCommand(scaleCommand())
  .addCommand(workersCommand());
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 1;
}
