import type { Command } from 'commander';
import { formatResourceId, resourceId, type ResourceId } from '../../resources/kinds/resource-key.js';
import { kindInfo } from '../../resources/kinds/resource.js';
import type { ResourceChange } from '../../store/history.js';
import type { DeleteAnswer } from '../../api/api-types.js';
import type { ApiRequest } from '../client/api-client.js';
import type { Cli } from '../cli.js';
import { usageError } from '../exit-codes.js';
import { renderHeld } from './apply-command.js';
import { kindOf, namedIn } from '../input/resource-name.js';
import { readInput } from '../input/input-files.js';
import { parseRuleFiles } from '../input/local-set.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';

type Options = {
  namespace?: string;
  file?: string[];
  ignoreNotFound: boolean;
  dryRun: boolean;
  output: OutputFormat;
};

/** The output of `-o json` and `-o yaml`: the deleted resources, and the resulting revision and inventory sequence. */
export type Deleted = {
  /** Null: nothing existed. */
  readonly revision: number | null;
  /** Null: no workload or service was deleted. */
  readonly inventorySequence: number | null;
  readonly changes: readonly ResourceChange[];
};

/** `culvert delete`: deletes resources by name, or those in files. */
export function addDeleteCommand(program: Command, cli: Cli): void {
  const command = program
    .command('delete')
    .description(
      'Delete resources by name, or those in files: all of them in one revision, or none. Refuses to delete a Segment that others name, and warns of what names a deleted Workload or Service.',
    )
    .argument('[kind]', 'kind of the resources')
    .argument('[name...]', 'names of the resources, or NAMESPACE/NAME')
    .option('-n, --namespace <namespace>', 'namespace of the resources; "default" unless given')
    .option('-f, --file <path...>', 'delete the resources in these files; - for the standard input')
    .option('--dry-run', 'check and show what would be deleted', false)
    .option('--ignore-not-found', 'do not fail for a resource that does not exist', false);
  command.addHelpText('after', '\nExample: culvert delete SegmentationRule db-only');
  addOutputOption(command).action(async (kind: string | undefined, names: readonly string[], options: Options) => {
    const ids = await wanted(cli, kind, names, options);
    const client = await cli.client();
    const answer = await cli.change<DeleteAnswer>(client, requestFor(ids, options));
    const { dryRun, output } = options;
    cli.io.print(output === 'table' ? renderDeleted(answer, dryRun) : renderData(toDeleted(answer), output));
    warnOfLost(cli, answer);
  });
}

async function wanted(
  cli: Cli,
  kind: string | undefined,
  names: readonly string[],
  options: Options,
): Promise<ResourceId[]> {
  const hint = 'write either: culvert delete KIND NAME, or: culvert delete -f FILE';
  if (options.file !== undefined) {
    if (kind !== undefined) throw usageError('a kind and files cannot be combined', hint);
    return await idsInFiles(cli, options.file);
  }
  if (kind === undefined || names.length === 0) throw usageError('nothing to delete was named', hint);
  const known = kindOf(kind);
  const { isNamespaced } = kindInfo(known);
  return names.map((text) => {
    const { name, namespace = isNamespaced ? 'default' : null } = namedIn(known, text, options.namespace);
    return { kind: known, namespace, name };
  });
}

async function idsInFiles(cli: Cli, files: readonly string[]): Promise<ResourceId[]> {
  const input = await readInput(files, cli.io);
  // As with apply, files may also contain PolicyTests.
  const { resources, problems } = parseRuleFiles(input.text);
  if (problems.length > 0) {
    cli.printProblems(problems.map(input.locate));
    throw usageError('nothing was deleted, because the files have problems', 'fix the problems');
  }
  if (resources.length === 0) throw usageError('these files contain nothing to delete', 'name files with resources');
  return resources.map(resourceId);
}

/** Deletes all of them or none: in one request, so that the order of references among them does not matter. */
function requestFor(ids: readonly ResourceId[], { dryRun, ignoreNotFound }: Options): ApiRequest {
  const [first] = ids;
  if (first === undefined || ids.length > 1 || ignoreNotFound) {
    return { method: 'POST', path: ['delete'], body: { resources: ids, dryRun, ignoreMissing: ignoreNotFound } };
  }
  // Controllers of older versions know this one too.
  const { kind, namespace, name } = first;
  const path = ['resources', kind, namespace ?? '-', name];
  return { method: 'DELETE', path, query: dryRun ? { dryRun: 'true' } : {} };
}

function toDeleted({ revision, inventory, changes }: DeleteAnswer): Deleted {
  if (changes.length === 0) return { revision: null, inventorySequence: null, changes };
  return { revision, inventorySequence: inventory.changes > 0 ? inventory.sequence : null, changes };
}

function renderDeleted(answer: DeleteAnswer, dryRun: boolean): string {
  const { changes, missing = [] } = answer;
  const what = dryRun ? 'would be deleted' : `deleted, ${renderHeld(answer)}`;
  const lines = changes.map((change) => `${formatResourceId(change)} ${what}`);
  return [...lines, ...missing.map((id) => `${formatResourceId(id)} does not exist`)].join('\n');
}

/** What no longer matches anything. */
function warnOfLost(cli: Cli, { changes, warnings }: DeleteAnswer): void {
  cli.printWarnings(warnings);
  if (warnings.every(({ isEarlier }) => isEarlier === true)) return;
  if (!changes.some(({ kind }) => kind === 'Workload')) return;
  cli.io.printError(
    'while something still answers at its addresses, they count as outside the mesh: what only names the workload no longer applies to them, and with outbound: allow connections to them are allowed, in the clear',
  );
}
