import type { Command } from 'commander';
import { parseDocuments } from '../../shared/model/parse-documents.js';
import { formatResourceId, resourceId, type ResourceId } from '../../shared/model/resource-key.js';
import { kindInfo } from '../../shared/model/resource.js';
import type { DeleteAnswer } from '../api/api-types.js';
import { RefusedError, type ApiClient } from './api-client.js';
import type { Cli } from './cli.js';
import { CliError, usageError } from './exit-codes.js';
import { kindOf, namespaceFor } from './get-command.js';
import { readInput } from './input-files.js';

type Options = { namespace?: string; file?: string[]; ignoreNotFound: boolean };

/** `culvert delete`: one resource by name, or those that files contain. */
export function addDeleteCommand(program: Command, cli: Cli): void {
  program
    .command('delete')
    .description('Delete a resource, or those in files. What others refer to is refused.')
    .argument('[kind]', 'kind of the resource')
    .argument('[name]', 'name of the resource')
    .option('-n, --namespace <namespace>', 'namespace of the resource; default unless given')
    .option('-f, --file <path...>', 'delete what these files contain; - for the standard input')
    .option('--ignore-not-found', 'what does not exist is fine', false)
    .action(async (kind: string | undefined, name: string | undefined, options: Options) => {
      const ids = await wanted(cli, kind, name, options);
      const client = await cli.client();
      await deleteAll(cli, client, ids, options.ignoreNotFound);
    });
}

async function wanted(cli: Cli, kind: string | undefined, name: string | undefined, options: Options) {
  const hint = 'write either: culvert delete KIND NAME, or: culvert delete -f FILE';
  if (options.file !== undefined) {
    if (kind !== undefined) throw usageError('both a kind and files are given', hint);
    return await idsInFiles(cli, options.file);
  }
  if (kind === undefined || name === undefined) throw usageError('it is not said what to delete', hint);
  const known = kindOf(kind);
  const namespace = namespaceFor(known, options.namespace) ?? (kindInfo(known).isNamespaced ? 'default' : null);
  return [{ kind: known, namespace, name }];
}

async function idsInFiles(cli: Cli, files: readonly string[]): Promise<ResourceId[]> {
  const input = await readInput(files, cli.io);
  const { resources, problems } = parseDocuments(input.text);
  if (problems.length > 0) {
    cli.printProblems(problems.map(input.locate));
    throw usageError('nothing was deleted, because the files have problems', 'correct them');
  }
  return resources.map(resourceId);
}

/**
 * One after the other, in an order that the references between them allow: what is refused because another of them
 * still refers to it is tried again when that is gone.
 */
async function deleteAll(
  cli: Cli,
  client: ApiClient,
  ids: readonly ResourceId[],
  ignoreNotFound: boolean,
): Promise<void> {
  let left = [...ids].reverse();
  for (;;) {
    const refused: { id: ResourceId; error: RefusedError }[] = [];
    for (const id of left) {
      const outcome = await deleteOne(client, id, ignoreNotFound);
      if (outcome instanceof RefusedError) refused.push({ id, error: outcome });
      else cli.io.print(outcome);
    }
    const [first] = refused;
    if (first === undefined) return;
    if (refused.length === left.length) {
      cli.printProblems(first.error.answer.problems);
      throw first.error;
    }
    left = refused.map(({ id }) => id);
  }
}

async function deleteOne(client: ApiClient, id: ResourceId, ignoreNotFound: boolean): Promise<string | RefusedError> {
  const { kind, namespace, name } = id;
  const path = ['resources', kind, namespace ?? '-', name];
  try {
    const { revision } = await client.call<DeleteAnswer>({ method: 'DELETE', path });
    return `${formatResourceId(id)} deleted, revision ${revision}`;
  } catch (error) {
    if (error instanceof RefusedError) return error;
    if (ignoreNotFound && error instanceof CliError && error.exit === 'notFound')
      return `${formatResourceId(id)} is not there`;
    throw error;
  }
}
