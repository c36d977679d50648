import { Argument, Command } from 'commander';
import { describeError } from '../../shared/errors.js';
import { execInLab, findLab, removeLab, statusOf } from './held-lab.js';
import { DeclaredPath } from './declared-path.js';
import { requirementsOf, type RunKind, usesOfRun } from './declared-programs.js';
import { ensureRequirements } from './install-requirements.js';
import { createLab } from './lab.js';
import { readLabStates } from './lab-state.js';
import { defaultTopology } from './topology.js';
import { readTopologyFile } from './topology-file.js';

/** `npm run lab -- …`: manages labs by hand. They outlive this process, until `down`. */
const program = new Command('lab').description(
  'Hosts and workloads as network namespaces of this machine (needs root).',
);

program
  .command('up')
  .description('build a lab; prints its prefix on stdout and its nodes on stderr')
  .option('--topology <file>', 'a YAML file; default: two hosts and six workloads')
  .action(async (options: { topology?: string }) => {
    using _ = DeclaredPath.enter('lab');
    const topology = options.topology === undefined ? defaultTopology : readTopologyFile(options.topology);
    const lab = await createLab(topology, { isHeld: true });
    for (const { netns, ipv4, ipv6 } of [...lab.hosts, ...lab.workloads]) {
      console.error(`${netns.padEnd(32)} ${ipv4.padEnd(15)} ${ipv6}`);
    }
    console.error(`enter a node: npm run lab -- exec ${lab.prefix} NODE -- bash`);
    console.log(lab.prefix);
  });

program
  .command('down')
  .description('remove a lab and stop everything in it')
  .argument('[prefix]')
  .option('--all', 'remove every held lab and every lab whose process died')
  .action((prefix: string | undefined, options: { all?: boolean }, command: Command) => {
    if ((prefix === undefined) === (options.all !== true)) command.error('error: name one PREFIX, or say --all');
    const states = prefix === undefined ? readLabStates().filter((s) => statusOf(s) !== 'in use') : [findLab(prefix)];
    for (const state of states) {
      removeLab(state);
      console.error(`removed ${state.prefix}`);
    }
  });

program
  .command('exec')
  .description('run a program in a node: a host, or a workload by NAME or NAME.NAMESPACE')
  .argument('<prefix>')
  .argument('<node>')
  .argument('<command...>')
  .action(async (prefix: string, node: string, command: string[]) => {
    process.exitCode = await execInLab(findLab(prefix), node, command);
  });

program
  .command('list')
  .description('show the labs of this machine')
  .action(() => {
    for (const state of readLabStates()) {
      const owner = state.owner === null ? '' : ` process ${state.owner.pid}`;
      console.log(`${state.prefix} ${statusOf(state)}${owner} since ${state.createdAt}, ${state.nodes.length} nodes`);
    }
  });

program
  .command('requirements')
  .description('report programs that a run needs and that are missing')
  .addArgument(new Argument('[run]').choices(Object.keys(usesOfRun)).default('tests'))
  .option('--install', 'install them with apt-get; no service is started or enabled')
  .action(async (run: RunKind, { install = false }: { install?: boolean }) => {
    await ensureRequirements({ install, log: (line) => console.error(line), requirements: requirementsOf(run) });
  });

try {
  await program.parseAsync();
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
}
