import type { Command } from 'commander';
import { blastRadius, type Reached } from '../../analysis/reach/blast-radius.js';
import { reachability, type ReachedPorts, type ReachGroup } from '../../analysis/reach/reachability.js';
import { didYouMean } from '../../../shared/nearest-name.js';
import type { Cli } from '../cli.js';
import { readCount } from '../input/quantity-arguments.js';
import { CliError } from '../exit-codes.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { namesText, portText } from '../view/amounts.js';
import { asEnforced, loadPresentSet, type PresentSet } from '../client/present-set.js';
import { renderTable } from '../view/table.js';
import { workloadName } from '../../../shared/routing/names.js';

type Options = { blastRadius?: string; hops: number; output: OutputFormat };

/** `culvert matrix`: shows which workloads can reach which, or the blast radius of one compromised workload. */
export function addMatrixCommand(program: Command, cli: Cli): void {
  const command = program
    .command('matrix')
    .description('Show which workloads can reach which, and on which ports, by the rules in force.')
    .option('--blast-radius <workload>', 'show what is reachable from NAMESPACE/NAME, workload by workload')
    .option('--hops <count>', 'how many hops to follow', (text) => readCount(text, 'number of hops'), 3)
    .addHelpText('after', '\nA workload always reaches itself; that is not listed.')
    .addHelpText('after', '\nExample: culvert matrix --blast-radius guest/shell --hops 2');
  addOutputOption(command).action(async ({ blastRadius: workload, hops, output }: Options) => {
    const client = await cli.client();
    const registered = await loadPresentSet(client);
    const present = asEnforced(registered, registered, cli.io.printError);
    const clock = { nowMs: cli.io.nowMs };
    if (workload === undefined) {
      const groups = reachability({ ...present, clock });
      return cli.io.print(output === 'table' ? renderMatrix(groups) : renderData(groups, output));
    }
    requireWorkload(present, workload);
    const reached = blastRadius({ ...present, workload, maxHops: hops, clock });
    cli.io.print(
      output === 'table' ? renderReached(workload, reached) : renderData(reached.map(withEmptyRule), output),
    );
  });
}

function requireWorkload({ entries }: PresentSet, workload: string): void {
  const names = new Set<string>(entries.filter(({ kind }) => kind === 'workload').map(workloadName));
  if (names.has(workload)) return;
  throw new CliError({
    exit: 'notFound',
    code: 'NOT_FOUND',
    message: `there is no workload ${workload}`,
    hint: didYouMean(workload, names, 'list them: culvert get workloads'),
  });
}

function renderMatrix(groups: readonly ReachGroup[]): string {
  if (groups.length === 0) return 'No workload can reach another.';
  const rows = groups.flatMap(({ sources, destinations, allowed }) =>
    allowed.map((one) => [namesText(sources), namesText(destinations), ...allowedCells(one)]),
  );
  return renderTable(['FROM', 'TO', 'PORTS', 'RULE', 'AUDITED'], rows);
}

function renderReached(workload: string, reached: readonly Reached[]): string {
  if (reached.length === 0) return `${workload} cannot reach anything.`;
  const rows = reached.flatMap(({ name, hops, via, allowed }) =>
    allowed.map((one) => [String(hops), name, via, ...allowedCells(one)]),
  );
  return renderTable(['HOPS', 'REACHES', 'FROM', 'PORTS', 'RULE', 'AUDITED'], rows);
}

/** In data, no rule is an empty text. */
function withEmptyRule({ allowed, ...reached }: Reached) {
  return { ...reached, allowed: allowed.map(({ ports, rule, audited }) => ({ ports, rule: rule ?? '', audited })) };
}

function allowedCells({ ports, rule, audited }: ReachedPorts): string[] {
  return [portText(ports), rule ?? 'no agent enforces rules', audited.join(', ')];
}
