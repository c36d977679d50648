import type { RuleSet } from '../../analysis/pairs/rule-set.js';
import { kindNames, type Resource } from '../../resources/kinds/resource.js';
import type { ExportAnswer, ResourceList } from '../../api/api-types.js';
import type { ApiClient } from './api-client.js';
import { CliError } from '../exit-codes.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import { countText } from '../view/amounts.js';
import { printable } from '../view/table.js';

/** The compiled rules and the registry of the revision in force. */
export type PresentSet = RuleSet & {
  readonly revision: number;
  /** Nodes that an agent has joined for; null: the controller does not say. */
  readonly nodesWithAgent: ReadonlySet<string> | null;
};

export async function loadPresentSet(client: ApiClient): Promise<PresentSet> {
  const answer = await client.call<ExportAnswer>({ method: 'GET', path: ['export'] });
  const { revision, snapshot, entries, nodesWithAgent } = answer;
  return { revision, snapshot, entries, nodesWithAgent: nodesWithAgent === undefined ? null : new Set(nodesWithAgent) };
}

/**
 * The set as it is enforced: a workload whose node no agent has joined for is one without an agent, which proves no identity.
 * `print` gets a line that names these nodes.
 */
export function asEnforced<Set extends RuleSet>(
  set: Set,
  { nodesWithAgent }: Pick<PresentSet, 'nodesWithAgent'>,
  print: (line: string) => void,
): Set {
  if (nodesWithAgent === null) return set;
  const missing = new Map<string, number>();
  const entries = set.entries.map((entry): RegistryEntry => {
    if (entry.kind !== 'workload' || entry.protocol !== 'hbone') return entry;
    const node = entry.node ?? '';
    if (nodesWithAgent.has(node)) return entry;
    missing.set(node, (missing.get(node) ?? 0) + 1);
    return { ...entry, protocol: 'tcp' };
  });
  if (missing.size === 0) return set;
  const named = [...missing].slice(0, maxNamed).map(([node, count]) => `${node} (${countText(count, 'workload')})`);
  const more = missing.size - named.length;
  const nodes = [...named, ...(more > 0 ? [`${more} more`] : [])].join(', ');
  print(
    printable(
      `note: no agent has joined for ${nodes}: workloads there count as without an agent, which prove no identity`,
    ),
  );
  return { ...set, entries };
}

const maxNamed = 10;

const attempts = 5;

/**
 * As {@link loadPresentSet}, with the documents. They take several requests, so everything is read again when the revision
 * changes in between. Throws CliError (failed) when it changes every time.
 */
export async function loadPresentDocuments(
  client: ApiClient,
): Promise<PresentSet & { readonly resources: readonly Resource[] }> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const present = await loadPresentSet(client);
    const resources: Resource[] = [];
    let isSame = true;
    for (const kind of kindNames) {
      const list = await client.call<ResourceList>({ method: 'GET', path: ['resources', kind] });
      isSame &&= list.revision === present.revision;
      resources.push(...list.items.map(({ resource }) => resource));
    }
    if (isSame) return { ...present, resources };
  }
  const message = 'the documents change too often to read a whole revision';
  throw new CliError({ exit: 'failed', code: 'NO_STABLE_REVISION', message, hint: 'try again' });
}
