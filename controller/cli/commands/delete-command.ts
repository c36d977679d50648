import type { Command } from 'commander';
import { formatResourceId, resourceId, type ResourceId } from '../../resources/kinds/resource-key.js';
import { formatProblem, type Problem } from '../../resources/kinds/problem.js';
import { kindInfo } from '../../resources/kinds/resource.js';
import type { ResourceChange } from '../../store/history.js';
import type { DeleteAnswer } from '../../api/api-types.js';
import { RefusedError, type ApiClient } from '../client/api-client.js';
import type { Cli } from '../cli.js';
import { CliError, usageError } from '../exit-codes.js';
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
      'Delete resources by name, or those in files. Refuses to delete a Segment that others name, and warns of what names a deleted Workload or Service.',
    )
    .argument('[kind]', 'kind of the resources')
    .argument('[name...]', 'names of the resources, or NAMESPACE/NAME')
    .option('-n, --namespace <namespace>', 'namespace of the resources; "default" unless given')
    .option('-f, --file <path...>', 'delete the resources in these files; - for the standard input')
    .option('--dry-run', 'check and show what would be deleted; each resource is checked alone', false)
    .option('--ignore-not-found', 'do not fail for a resource that does not exist', false);
  command.addHelpText('after', '\nExample: culvert delete SegmentationRule db-only');
  addOutputOption(command).action(async (kind: string | undefined, names: readonly string[], options: Options) => {
    const ids = await wanted(cli, kind, names, options);
    const client = await cli.client();
    const deletion = new Deletion({ cli, client, options });
    try {
      await deletion.deleteAll(ids);
    } finally {
      // Reports what was deleted even when the rest was refused.
      deletion.report();
    }
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

/** Deletes resources one by one and records what was deleted. */
class Deletion {
  readonly #cli: Cli;
  readonly #client: ApiClient;
  readonly #options: Options;
  readonly #changes: ResourceChange[] = [];
  readonly #warned = new Set<string>();
  #revision: number | null = null;
  #sequence: number | null = null;

  constructor(init: { readonly cli: Cli; readonly client: ApiClient; readonly options: Options }) {
    this.#cli = init.cli;
    this.#client = init.client;
    this.#options = init.options;
  }

  /**
   * Deletes the resources in an order that their references allow: one that is refused because another of them still
   * refers to it is retried after that one is deleted.
   */
  async deleteAll(ids: readonly ResourceId[]): Promise<void> {
    let left = [...ids].reverse();
    for (;;) {
      const refused: { id: ResourceId; error: RefusedError }[] = [];
      for (const id of left) {
        const error = await this.#deleteOne(id);
        if (error !== null) refused.push({ id, error });
      }
      const [first] = refused;
      if (first === undefined) return;
      if (refused.length === left.length) {
        this.#cli.printProblems(first.error.answer.problems);
        throw first.error;
      }
      left = refused.map(({ id }) => id);
    }
  }

  /** Prints the result for programs. People have already seen a line per resource. */
  report(): void {
    const { output } = this.#options;
    if (output === 'table') return;
    const deleted: Deleted = { revision: this.#revision, inventorySequence: this.#sequence, changes: this.#changes };
    this.#cli.io.print(renderData(deleted, output));
  }

  async #deleteOne(id: ResourceId): Promise<RefusedError | null> {
    const { kind, namespace, name } = id;
    const path = ['resources', kind, namespace ?? '-', name];
    try {
      const { dryRun } = this.#options;
      const query = dryRun ? { dryRun: 'true' } : {};
      const { revision, inventory, warnings } = await this.#client.call<DeleteAnswer>({
        method: 'DELETE',
        path,
        query,
      });
      this.#revision = revision;
      if (inventory.changes > 0) this.#sequence = inventory.sequence;
      this.#changes.push({ ...id, change: 'deleted' });
      this.#say(
        dryRun
          ? `${formatResourceId(id)} would be deleted`
          : `${formatResourceId(id)} deleted, ${renderHeld({ revision, inventory })}`,
      );
      this.#warn(id, warnings);
      return null;
    } catch (error) {
      if (error instanceof RefusedError) return error;
      const isFine = this.#options.ignoreNotFound && error instanceof CliError && error.exit === 'notFound';
      if (!isFine) throw error;
      this.#say(`${formatResourceId(id)} does not exist`);
      return null;
    }
  }

  /** What no longer matches anything. Warnings about the rest of the mesh come with each of several deletions. */
  #warn({ kind }: ResourceId, warnings: readonly Problem[]): void {
    const ofChange = warnings.filter(({ isEarlier }) => isEarlier !== true);
    const fresh = ofChange.filter((warning) => !this.#warned.has(formatProblem(warning)));
    for (const warning of fresh) this.#warned.add(formatProblem(warning));
    this.#cli.printProblems(fresh);
    if (kind !== 'Workload' || fresh.length === 0) return;
    this.#cli.io.printError(
      'while something still answers at its addresses, they count as outside the mesh: what only names the workload no longer applies to them, and with outbound: allow connections to them are allowed, in the clear',
    );
  }

  #say(line: string): void {
    if (this.#options.output === 'table') this.#cli.io.print(line);
  }
}
