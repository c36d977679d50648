import type { Command } from 'commander';
import { didYouMean } from '../../../shared/nearest-name.js';
import { findKind, kindInfo, kindNames, type ResourceKind } from '../../resources/kinds/resource.js';
import type { ResourceItem, ResourceList } from '../../api/api-types.js';
import type { ApiClient } from '../client/api-client.js';
import type { Cli } from '../cli.js';
import { CliError, usageError } from '../exit-codes.js';
import { addOutputOption, renderData, renderDocuments, type OutputFormat } from '../view/output-format.js';
import { renderResources } from '../view/resource-columns.js';

type Options = { namespace?: string; output: OutputFormat };

/** `culvert get`: shows applied resources. The YAML can be applied again; the JSON adds who applied it and when. */
export function addGetCommand(program: Command, cli: Cli): void {
  const command = program
    .command('get')
    .description('Show the resources of a kind (or "all"), or one resource.')
    .argument('<kind>', `one of ${kindNames.join(', ')}, in any case, singular or plural; or all`)
    .argument('[name]', 'name of one resource')
    .option('-n, --namespace <namespace>', 'only this namespace; with a name, "default" unless given');
  command.addHelpText('after', '\nExample: culvert get rules -o yaml');
  addOutputOption(command).action(async (kind: string, name: string | undefined, options: Options) => {
    if (kind.toLowerCase() === 'all') return await getAll(cli, name, options);
    await get(cli, kindOf(kind), name, options);
  });
}

async function get(cli: Cli, kind: ResourceKind, name: string | undefined, options: Options): Promise<void> {
  const { io } = cli;
  const query = { namespace: namespaceFor(kind, options.namespace) };
  const client = await cli.client();
  if (name !== undefined) {
    const item = await client.call<ResourceItem>({ method: 'GET', path: ['resources', kind, name], query });
    return io.print(renderItem(kind, item, options.output, io.nowMs()));
  }
  const list = await client.call<ResourceList>({ method: 'GET', path: ['resources', kind], query });
  if (options.output === 'json') return io.print(renderData(list, 'json'));
  if (options.output === 'yaml') return io.print(renderDocuments(list.items.map(({ resource }) => resource)));
  if (list.items.length === 0) return io.printError(`there is no ${kind}${inNamespace(query.namespace)}`);
  io.print(renderResources(kind, list.items, io.nowMs()));
}

async function getAll(cli: Cli, name: string | undefined, { namespace, output }: Options): Promise<void> {
  if (name !== undefined) throw usageError('"all" takes no name', 'name the kind: culvert get Workload NAME');
  const { io } = cli;
  const client = await cli.client();
  const lists = await Promise.all(kindNames.map((kind) => listKind(client, kind, namespace)));
  const items = lists.flatMap((list) => list.items);
  if (output === 'json') return io.print(renderData({ revision: lists[0]?.revision ?? 0, items }, 'json'));
  if (output === 'yaml') return io.print(renderDocuments(items.map(({ resource }) => resource)));
  if (items.length === 0) return io.printError('there are no resources');
  const tables = lists.flatMap((list) => {
    const [first] = list.items;
    return first === undefined
      ? []
      : [`${first.resource.kind}\n${renderResources(first.resource.kind, list.items, io.nowMs())}`];
  });
  io.print(tables.join('\n\n'));
}

async function listKind(client: ApiClient, kind: ResourceKind, namespace: string | undefined): Promise<ResourceList> {
  if (namespace !== undefined && !kindInfo(kind).isNamespaced) return { revision: 0, items: [] };
  return await client.call<ResourceList>({ method: 'GET', path: ['resources', kind], query: { namespace } });
}

function renderItem(kind: ResourceKind, item: ResourceItem, output: OutputFormat, nowMs: number): string {
  if (output === 'table') return renderResources(kind, [item], nowMs);
  return output === 'json' ? renderData(item, 'json') : renderData(item.resource, 'yaml');
}

function inNamespace(namespace: string | undefined): string {
  return namespace === undefined ? '' : ` in namespace ${namespace}`;
}

/** Throws CliError (notFound), which suggests the nearest kind. */
export function kindOf(text: string): ResourceKind {
  const kind = findKind(text);
  if (kind !== undefined) return kind;
  if (/^policytests?$/i.test(text)) {
    const message = 'PolicyTests are never stored';
    throw new CliError({ exit: 'notFound', code: 'UNKNOWN_KIND', message, hint: 'check files with: culvert test -f' });
  }
  const hint = didYouMean(text, kindNames, `the kinds are ${kindNames.join(', ')}`);
  throw new CliError({ exit: 'notFound', code: 'UNKNOWN_KIND', message: `there is no kind "${text}"`, hint });
}

/** Throws CliError (usage) when a namespace is given for a kind of the whole mesh. */
export function namespaceFor(kind: ResourceKind, namespace: string | undefined): string | undefined {
  if (namespace === undefined || kindInfo(kind).isNamespaced) return namespace;
  throw usageError(`${kind} belongs to the whole mesh and has no namespace`, 'omit -n');
}
