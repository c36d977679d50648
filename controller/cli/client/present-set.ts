import type { RuleSet } from '../../analysis/pairs/rule-set.js';
import { kindNames, type Resource } from '../../resources/kinds/resource.js';
import type { ExportAnswer, ResourceList } from '../../api/api-types.js';
import type { ApiClient } from './api-client.js';
import { CliError } from '../exit-codes.js';

/** The compiled rules and the registry of the revision in force. */
export type PresentSet = RuleSet & { readonly revision: number };

export async function loadPresentSet(client: ApiClient): Promise<PresentSet> {
  const { revision, snapshot, entries } = await client.call<ExportAnswer>({ method: 'GET', path: ['export'] });
  return { revision, snapshot, entries };
}

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
