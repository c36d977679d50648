import { Option, type Command } from 'commander';
import { setTimeout as delay } from 'node:timers/promises';
import { failureLine } from '../../../shared/program/failure-line.js';
import { resourceId, type ResourceId } from '../../resources/kinds/resource-key.js';
import { kindInfo, kindNames, type ResourceKind } from '../../resources/kinds/resource.js';
import type { ResourceItem, ResourceList } from '../../api/api-types.js';
import type { ApiClient } from '../client/api-client.js';
import type { Cli } from '../cli.js';
import { CliError, usageError } from '../exit-codes.js';
import { parseLabelSelector, type LabelSelector } from '../input/label-selector.js';
import { kindOf, namedIn, namespaceFor } from '../input/resource-name.js';
import { renderData, renderDocuments } from '../view/output-format.js';
import { renderResources, resourceName } from '../view/resource-columns.js';

const outputs = ['table', 'json', 'yaml', 'wide', 'name'] as const;

type Options = {
  namespace?: string;
  allNamespaces: boolean;
  selector?: LabelSelector;
  watch: boolean;
  output: (typeof outputs)[number];
};

/** How often a watch asks for what changed. */
const watchEveryMs = 1000;

/** `culvert get`: shows applied resources. The YAML can be applied again; the JSON adds who applied it and when. */
export function addGetCommand(program: Command, cli: Cli): void {
  program
    .command('get')
    .description('Show the resources of a kind (or "all"), or those that are named.')
    .argument('<kind>', `one of ${kindNames.join(', ')}, in any case, singular or plural; or all`)
    .argument('[name...]', 'names of resources, or NAMESPACE/NAME')
    .option('-n, --namespace <namespace>', 'only this namespace; with a name, "default" unless given')
    .option('-A, --all-namespaces', 'all namespaces, as without -n', false)
    .option('-l, --selector <labels>', 'only resources with these labels, such as app=api,tier!=db', (text: string) =>
      parseLabelSelector(text),
    )
    .option('-w, --watch', 'go on and print what changes, until interrupted', false)
    .addOption(
      new Option('-o, --output <format>', 'output format; wide says where each is from, and shortens nothing')
        .choices(outputs)
        .default('table'),
    )
    .addHelpText('after', '\nExample: culvert get rules -o yaml')
    .addHelpText('after', 'Example: culvert get workloads -l app=api -o name')
    .action(async (kindText: string, names: readonly string[], options: Options) => {
      const query = { ...options, ...wanted(kindText, names, options) };
      const client = await cli.client();
      if (query.names.length > 0 && !query.watch) return await showNamed(cli, client, query);
      let items = await listed(client, query);
      show(cli, query, items);
      const outage = new Outage(cli);
      while (query.watch) {
        await delay(watchEveryMs);
        const now = await listed(client, query).catch((error: unknown) => outage.begin(error));
        if (now === undefined) continue;
        outage.end();
        showChanges(cli, query, items, now);
        items = now;
      }
    });
}

/** A watch goes on while the controller is away, for example because it is restarted, and says so once. */
class Outage {
  #isOn = false;

  readonly #cli: Cli;

  constructor(cli: Cli) {
    this.#cli = cli;
  }

  /** Throws what is not an outage. */
  begin(error: unknown): undefined {
    if (!(error instanceof CliError) || error.code !== 'UNREACHABLE') throw error;
    if (!this.#isOn) this.#cli.io.printError(`${error.message}; trying again every second until it answers`);
    this.#isOn = true;
  }

  end(): void {
    if (this.#isOn) this.#cli.io.printError('the controller answers again');
    this.#isOn = false;
  }
}

type Query = Options & {
  readonly kinds: readonly ResourceKind[];
  readonly isAll: boolean;
  /** Empty: all. */
  readonly names: readonly Named[];
};

type Named = ReturnType<typeof namedIn>;

type Listed = { readonly revision: number; readonly items: readonly ResourceItem[] };

function wanted(
  kindText: string,
  names: readonly string[],
  { namespace, allNamespaces, output, watch }: Options,
): Pick<Query, 'kinds' | 'isAll' | 'names'> {
  if (allNamespaces && namespace !== undefined) throw usageError('-A and -n exclude each other', 'omit one of them');
  if (watch && output === 'json') throw usageError('-w prints no JSON', 'use -w with -o name, wide or yaml');
  const isAll = kindText.toLowerCase() === 'all';
  if (isAll && names.length > 0) {
    throw usageError('"all" takes no name', 'name the kind: culvert get Workload NAME');
  }
  if (isAll) return { kinds: kindNames, isAll, names: [] };
  const kind = kindOf(kindText);
  namespaceFor(kind, namespace);
  return { kinds: [kind], isAll, names: names.map((name) => namedIn(kind, name, namespace)) };
}

/** One resource as it is, several as a list. Shows those that exist before it fails for the others. */
async function showNamed({ io }: Cli, client: ApiClient, query: Query): Promise<void> {
  const { kinds, names, output } = query;
  const [kind = 'Mesh'] = kinds;
  const asked = names.map(({ name, namespace }) =>
    client.call<ResourceItem>({ method: 'GET', path: ['resources', kind, name], query: { namespace } }),
  );
  const answers = await Promise.allSettled(asked);
  const items = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  const failures = answers.flatMap((answer): unknown[] => (answer.status === 'rejected' ? [answer.reason] : []));
  const [first] = items;
  if (first !== undefined) {
    if (output === 'json') io.print(renderData(names.length === 1 ? first : { items }, 'json'));
    else if (output === 'yaml') io.print(renderDocuments(items.map(({ resource }) => resource)));
    else io.print(renderItems(query, kind, items, io.nowMs()));
  }
  if (failures.length === 0) return;
  for (const failure of failures.slice(0, -1)) io.printError(failureLine('culvert', failure));
  throw failures.at(-1);
}

async function listed(client: ApiClient, { kinds, isAll, names, namespace, selector }: Query): Promise<Listed> {
  const lists = await Promise.all(
    kinds
      .filter((kind) => !isAll || namespace === undefined || kindInfo(kind).isNamespaced)
      .map((kind) => client.call<ResourceList>({ method: 'GET', path: ['resources', kind], query: { namespace } })),
  );
  const items = lists
    .flatMap((list) => list.items)
    .filter(({ resource }) => names.length === 0 || names.some((named) => isNamed(resourceId(resource), named)))
    .filter(({ resource }) => selector === undefined || selector.fits(resource.metadata.labels ?? {}));
  return { revision: lists[0]?.revision ?? 0, items };
}

function isNamed(id: ResourceId, { name, namespace }: Named): boolean {
  return id.name === name && (id.namespace === null || id.namespace === (namespace ?? 'default'));
}

function show({ io }: Cli, query: Query, { revision, items }: Listed): void {
  const { kinds, isAll, output, namespace } = query;
  if (output === 'json') return io.print(renderData({ revision, items }, 'json'));
  if (output === 'yaml') return io.print(renderDocuments(items.map(({ resource }) => resource)));
  const [only = 'resource'] = kinds;
  if (items.length === 0 && output !== 'name') {
    const where = namespace === undefined ? '' : ` in namespace ${namespace}`;
    return io.printError(isAll ? 'there are no resources' : `there is no ${only}${where}`);
  }
  const texts = kinds.flatMap((kind) => {
    const ofKind = items.filter(({ resource }) => resource.kind === kind);
    if (ofKind.length === 0) return [];
    const text = renderItems(query, kind, ofKind, io.nowMs());
    return [isAll && output !== 'name' ? `${kind}\n${text}` : text];
  });
  if (texts.length > 0) io.print(texts.join(output === 'name' ? '\n' : '\n\n'));
}

/** Prints resources that are new or that were applied again, and the names of those that are gone. */
function showChanges(cli: Cli, query: Query, before: Listed, now: Listed): void {
  const known = new Map(before.items.map((item) => [resourceName(item.resource), item]));
  const changed = now.items.filter((item) => {
    const old = known.get(resourceName(item.resource));
    known.delete(resourceName(item.resource));
    return old?.revision !== item.revision || old.appliedAt !== item.appliedAt;
  });
  if (changed.length > 0) show(cli, query, { ...now, items: changed });
  for (const gone of known.keys()) cli.io.print(`${gone} deleted`);
}

function renderItems({ output }: Query, kind: ResourceKind, items: readonly ResourceItem[], nowMs: number): string {
  if (output === 'name') return items.map(({ resource }) => resourceName(resource)).join('\n');
  return renderResources(kind, items, nowMs, { isWide: output === 'wide' });
}
