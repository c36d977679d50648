import type { Command } from 'commander';
import { diffSets, type SetDiff } from '../../analysis/diff/diff-sets.js';
import type { RuleSet } from '../../analysis/pairs/rule-set.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import { resourceKey } from '../../resources/kinds/resource-key.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { Cli } from '../cli.js';
import { CliError, usageError } from '../exit-codes.js';
import { readInput } from '../input/input-files.js';
import { compileLocalSet, parseRuleFiles } from '../input/local-set.js';
import { countText } from '../view/amounts.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { asEnforced, loadPresentDocuments, type PresentSet } from '../client/present-set.js';
import { addSinceOption, loadFlows } from '../client/recorded-flows.js';
import { printable } from '../view/table.js';
import { renderDiff } from '../view/render-diff.js';

type Options = { file: string[]; flows: boolean; since: number; whole: boolean; output: OutputFormat };

/** `culvert diff`: shows what applying files would change for pairs of workloads and for recorded connections. */
export function addDiffCommand(program: Command, cli: Cli): void {
  const command = program
    .command('diff')
    .description('Show what applying files would newly deny and allow. Changes nothing.')
    .requiredOption('-f, --file <path...>', 'files, directories, or - for the standard input')
    .option(
      '--whole',
      'treat the files as the complete set: resources that they do not contain would be deleted',
      false,
    )
    .option('--flows', 'also compare with recorded connections', false);
  addSinceOption(command, '24h')
    .addHelpText('after', '\nExit code 2 with --flows: connections that were recorded as working would be denied.')
    .addHelpText('after', 'Example: culvert diff -f rules/ --flows --since 7d');
  addOutputOption(command).action(async (options: Options) => diff(cli, options));
}

async function diff(cli: Cli, { file, flows: isWanted, since, whole, output }: Options): Promise<void> {
  const { io } = cli;
  const input = await readInput(file, io);
  const { resources, problems, locations } = parseRuleFiles(input.text);
  if (resources.length === 0 && problems.length === 0) {
    throw usageError('these files contain no document', 'name the files that you want to apply');
  }
  const client = await cli.client();
  const present = await loadPresentDocuments(client);
  const proposed = whole ? resources : merged(present.resources, resources);
  const { trustDomain } = present.snapshot;
  const compiled = compileLocalSet(cli, { resources: proposed, locations, problems, input, trustDomain });
  const before = asEnforced(present, present, () => undefined);
  const after = asEnforced(compiled, withNewNodes(present, compiled, io.printError), io.printError);
  const recorded = isWanted ? await loadFlows(cli, client, since) : null;
  const result = diffSets({ before, after, flows: recorded?.flows ?? null, clock: { nowMs: io.nowMs } });
  if (output === 'table') io.print(renderDiff(result, io.nowMs()));
  else io.print(renderData({ revision: before.revision, gaps: recorded?.gaps ?? [], ...result }, output));
  if (!result.wouldBreak) return;
  throw new CliError({
    exit: 'wouldBreak',
    code: 'WOULD_BREAK',
    ...whatBreaks(result),
  });
}

function whatBreaks({ flows, traffic }: SetDiff): { readonly message: string; readonly hint: string } {
  const denied = flows?.broken.length ?? 0;
  if (denied > 0) {
    const message = `this would deny ${countText(denied, 'recorded flow')} that worked`;
    return { message, hint: 'allow them in the files, or start with mode: audit' };
  }
  const services = new Set((traffic ?? []).flatMap(({ isBroken, service }) => (isBroken ? [service] : [])));
  const message = `this would refuse connections to ${[...services].join(', ')} that worked: no endpoint is where a route leads`;
  return { message, hint: 'see who gets them: culvert endpoints SERVICE' };
}

/** Hosts of workloads that only the files have are about to join: the preview is of the mesh with them. */
function withNewNodes(present: PresentSet, { entries }: RuleSet, print: (line: string) => void): PresentSet {
  const { nodesWithAgent } = present;
  if (nodesWithAgent === null) return present;
  const known = new Set([...nodesWithAgent, ...nodesIn(present.entries)]);
  const added = [...nodesIn(entries)].filter((node) => !known.has(node));
  if (added.length === 0) return present;
  print(
    printable(`note: no agent has joined for ${added.slice(0, 10).join(', ')} yet: this is how it will be when it has`),
  );
  return { ...present, nodesWithAgent: new Set([...nodesWithAgent, ...added]) };
}

function nodesIn(entries: readonly RegistryEntry[]): Set<string> {
  return new Set(
    entries.flatMap((entry) => (entry.kind === 'workload' && entry.protocol === 'hbone' ? (entry.node ?? []) : [])),
  );
}

/** Merges as `culvert apply` does: a document replaces the one with the same kind and name. */
function merged(present: readonly Resource[], wanted: readonly Resource[]): Resource[] {
  const byKey = new Map(present.map((resource) => [resourceKey(resource), resource]));
  for (const resource of wanted) byKey.set(resourceKey(resource), resource);
  return [...byKey.values()];
}
