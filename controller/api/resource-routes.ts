import { z } from 'zod';
import { didYouMean } from '../../shared/nearest-name.js';
import { findKind, kindInfo, kindNames, type ResourceKind } from '../resources/kinds/resource.js';
import { formatResourceId, resourceId, resourceIdKey, type ResourceId } from '../resources/kinds/resource-key.js';
import { isInventoryKind, registryKeyOf, type StoredResource } from '../inventory/stored-resource.js';
import type { NodesWithoutAgent } from '../fleet/nodes-without-agent.js';
import type { ResourceStore } from '../store/resource-store.js';
import { badRequest, notFound } from './api-error.js';
import type { ApplyAnswer, DeleteAnswer, ResourceItem, ResourceList } from './api-types.js';
import { countChange, toRefusal, type ChangeResult } from './change-answer.js';
import { noteOutcome, permitOf } from './change-permit.js';
import type { DocumentReader } from './reading/document-reader.js';
import { readJson } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Room for `maxInputLength` characters as a JSON string. */
const maxApplyBytes = 40 * 1024 * 1024;
/** Room for a hundred thousand names. */
const maxDeleteBytes = 10 * 1024 * 1024;

const namedResource = z.strictObject({
  kind: z.string(),
  namespace: z.string().nullable().default(null),
  name: z.string().min(1),
});
const deleteSchema = z.strictObject({
  resources: z.tuple([namedResource], namedResource),
  ignoreMissing: z.boolean().default(false),
  dryRun: z.boolean().default(false),
});

type Deletion = {
  readonly ids: readonly [ResourceId, ...ResourceId[]];
  readonly dryRun: boolean;
  readonly ignoreMissing: boolean;
};

/** Routes to apply, read and delete resources. */
export function resourceRoutes(init: {
  readonly store: ResourceStore;
  readonly reader: DocumentReader;
  readonly nodes: Pick<NodesWithoutAgent, 'warnings'>;
  readonly onChange: (result: ChangeResult) => void;
}): Route[] {
  const { store, reader, nodes, onChange } = init;

  const apply = async (request: ApiRequest): Promise<ApiAnswer> => {
    const { body, subject: by, begin } = request;
    const { dryRun, message, parsed, withLines } = await reader.read(body);
    const outcome = await countChange(onChange, dryRun, () =>
      store.apply({ parsed, dryRun, by, message, permit: permitOf(request, store, 'apply'), begin }),
    );
    noteOutcome(request, outcome, dryRun);
    if (!outcome.ok) return toRefusal(await withLines(outcome.problems));
    const { revision, inventory, changes } = outcome;
    const warnings = await withLines([...outcome.warnings, ...nodes.warnings(parsed)]);
    return { status: 200, body: { revision, inventory, dryRun, changes, warnings } satisfies ApplyAnswer };
  };

  const list = ({ params, query }: ApiRequest): ApiAnswer => {
    const kind = kindOf(params['kind']);
    const namespace = query.get('namespace');
    const { state } = store.release;
    const items = documentsOf(store, kind)
      .filter(({ resource }) => resource.kind === kind)
      .filter(({ resource }) => namespace === null || resourceId(resource).namespace === namespace)
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .map(toItem);
    return { status: 200, body: { revision: state.revision, items } satisfies ResourceList };
  };

  const get = ({ params, query }: ApiRequest): ApiAnswer => {
    const id = idOf(params['kind'], query.get('namespace'), params['name']);
    const key = resourceIdKey(id);
    const stored = isInventoryKind(id.kind)
      ? store.inventory.documents.get(registryKeyOf(key))?.document
      : store.release.state.resources.get(key);
    if (stored === undefined || stored === null) throw unknownResource(store, id);
    return { status: 200, body: toItem(stored) };
  };

  const removeAll = async (request: ApiRequest, wanted: Deletion): Promise<ApiAnswer> => {
    const { subject: by, begin } = request;
    const { ids, dryRun, ignoreMissing } = wanted;
    let missing: readonly ResourceId[] = [];
    const outcome = await countChange(onChange, dryRun, () =>
      store.delete({
        ids,
        by,
        dryRun,
        permit: permitOf(request, store, 'delete'),
        begin,
        onMissing: (found) => {
          missing = found;
          return ignoreMissing;
        },
      }),
    );
    noteOutcome(request, outcome, dryRun);
    if (outcome === undefined) throw unknownResource(store, missing[0] ?? ids[0]);
    if (!outcome.ok) return toRefusal(outcome.problems);
    const { revision, inventory, changes, warnings } = outcome;
    return { status: 200, body: { revision, inventory, changes, warnings, missing } satisfies DeleteAnswer };
  };

  const remove = (request: ApiRequest): Promise<ApiAnswer> => {
    const { params, query } = request;
    const ids = [idOf(params['kind'], params['namespace'] ?? null, params['name'])] as const;
    return removeAll(request, { ids, dryRun: query.get('dryRun') === 'true', ignoreMissing: false });
  };

  const removeListed = (request: ApiRequest): Promise<ApiAnswer> => {
    const { resources, ...wanted } = readJson(deleteSchema, request.body);
    const [first, ...rest] = resources;
    const ids = [toId(first), ...rest.map(toId)] as const;
    if (rest.length === 0) request.note({ target: formatResourceId(ids[0]) });
    return removeAll(request, { ...wanted, ids });
  };

  return [
    {
      method: 'POST',
      path: '/v1/apply',
      access: 'editor',
      audit: { action: 'apply', beginsLate: true },
      maxBodyBytes: maxApplyBytes,
      handle: apply,
    },
    { method: 'GET', path: '/v1/resources/:kind', access: 'viewer', maxBodyBytes: 0, handle: list },
    { method: 'GET', path: '/v1/resources/:kind/:name', access: 'viewer', maxBodyBytes: 0, handle: get },
    {
      method: 'DELETE',
      path: '/v1/resources/:kind/:namespace/:name',
      access: 'editor',
      audit: {
        action: 'delete',
        beginsLate: true,
        target: ({ params }) => [params['kind'], params['namespace'], params['name']].join('/'),
      },
      maxBodyBytes: 0,
      handle: remove,
    },
    {
      method: 'POST',
      path: '/v1/delete',
      access: 'editor',
      audit: { action: 'delete', beginsLate: true },
      maxBodyBytes: maxDeleteBytes,
      handle: removeListed,
    },
  ];
}

/** Those of this kind, and of others of the same store. */
function documentsOf(store: ResourceStore, kind: ResourceKind): StoredResource[] {
  if (!isInventoryKind(kind)) return [...store.release.state.resources.values()];
  return [...store.inventory.documents.values()].flatMap(({ document }) => document ?? []);
}

function toItem({ resource, revision, appliedAt, appliedBy, origin }: StoredResource): ResourceItem {
  return { resource, revision, appliedAt, appliedBy, origin: origin ?? 'documents' };
}

function kindOf(text = ''): ResourceKind {
  const kind = findKind(text);
  if (kind !== undefined) return kind;
  throw notFound(`there is no kind ${text}`, didYouMean(text, kindNames, `use one of ${kindNames.join(', ')}`));
}

/** `-` stands for no namespace, for kinds of the whole mesh. Other kinds get `default` without one, as in Kubernetes. */
function idOf(kindText: string | undefined, namespace: string | null, name = ''): ResourceId {
  const kind = kindOf(kindText);
  const given = namespace === '-' ? null : namespace;
  if (kindInfo(kind).isNamespaced) return { kind, namespace: given ?? 'default', name };
  if (given === null) return { kind, namespace: null, name };
  throw badRequest(`${kind} belongs to the whole mesh and has no namespace`, 'omit the namespace');
}

function toId({ kind, namespace, name }: z.infer<typeof namedResource>): ResourceId {
  return idOf(kind, namespace, name);
}

function unknownResource(store: ResourceStore, id: ResourceId) {
  const where = id.namespace === null ? '' : ` in the namespace ${id.namespace}`;
  const ofKind = documentsOf(store, id.kind)
    .map(({ resource }) => resourceId(resource))
    .filter((candidate) => candidate.kind === id.kind);
  const elsewhere = ofKind.find(({ name }) => name === id.name);
  const names = ofKind.filter(({ namespace }) => namespace === id.namespace).map(({ name }) => name);
  const hint =
    elsewhere === undefined
      ? didYouMean(id.name, names, `list them: culvert get ${id.kind}`)
      : `there is ${elsewhere.namespace}/${elsewhere.name}`;
  return notFound(`there is no ${id.kind} ${id.name}${where}`, hint);
}
