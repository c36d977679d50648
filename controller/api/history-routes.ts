import { z } from 'zod';
import { resourceIdKey } from '../resources/kinds/resource-key.js';
import type { CommittedState } from '../release/committed-state.js';
import type { History, HistoryRecord } from '../store/history.js';
import type { ResourceStore } from '../store/resource-store.js';
import { notFound } from './api-error.js';
import type { DocumentDiff, HistoryDetail, HistoryItem, RollbackAnswer } from './api-types.js';
import { noteOutcome, permitOf } from './change-permit.js';
import { changeMessage, countChange, toRefusal, type ChangeResult } from './change-answer.js';
import { readCount, readJson } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Limits the list, which people read: a first apply may change thousands of documents. */
const maxListedChanges = 100;
const defaultLimit = 50;

const rollbackSchema = z.strictObject({
  revision: z.int().min(1),
  dryRun: z.boolean().default(false),
  message: changeMessage,
});

/** The history of revisions, and rollbacks to them. */
export function historyRoutes(init: {
  readonly store: ResourceStore;
  readonly onChange: (result: ChangeResult) => void;
}): Route[] {
  const { store, onChange } = init;

  const list = ({ query }: ApiRequest): ApiAnswer => {
    const { base, records } = store.history;
    const limit = readCount(query.get('limit') ?? String(defaultLimit), 'limit');
    const items = records.slice(-limit).reverse().map(toItem);
    if (items.length < limit && base.revision > 0) items.push(baseItem(base));
    return { status: 200, body: items.map(shortened) satisfies HistoryItem[] };
  };

  const get = ({ params }: ApiRequest): ApiAnswer => {
    const revision = readCount(params['revision'] ?? '', 'revision');
    const { history } = store;
    if (revision === history.base.revision) return { status: 200, body: { ...baseItem(history.base), documents: [] } };
    const record = history.records.find(({ commit }) => commit.revision === revision);
    if (record === undefined) throw unknownRevision(history, revision);
    const body: HistoryDetail = { ...toItem(record), documents: documentsOf(history, record) };
    return { status: 200, body };
  };

  const rollback = async (request: ApiRequest): Promise<ApiAnswer> => {
    const { body, subject, begin } = request;
    const { revision, dryRun, message } = readJson(rollbackSchema, body);
    request.note({ target: String(revision) });
    const outcome = await countChange(onChange, dryRun, () =>
      store.rollback({ revision, dryRun, by: subject, message, permit: permitOf(request, store, 'rollback'), begin }),
    );
    noteOutcome(request, outcome, dryRun);
    if (outcome === undefined) throw unknownRevision(store.history, revision);
    if (!outcome.ok) return toRefusal(outcome.problems);
    const { inventory, changes, warnings } = outcome;
    const answer: RollbackAnswer = {
      revision: outcome.revision,
      inventory,
      dryRun,
      changes,
      warnings,
      rollbackOf: revision,
    };
    return { status: 200, body: answer };
  };

  return [
    { method: 'GET', path: '/v1/history', access: 'viewer', maxBodyBytes: 0, handle: list },
    { method: 'GET', path: '/v1/history/:revision', access: 'viewer', maxBodyBytes: 0, handle: get },
    {
      method: 'POST',
      path: '/v1/rollback',
      access: 'editor',
      audit: { action: 'rollback', beginsLate: true },
      maxBodyBytes: 16_384,
      handle: rollback,
    },
  ];
}

function toItem({ commit, changes }: HistoryRecord): HistoryItem {
  return {
    revision: commit.revision,
    at: commit.createdAt,
    by: commit.createdBy,
    message: commit.message ?? null,
    rollbackOf: commit.rollbackOf ?? null,
    areChangesKnown: true,
    changeCount: changes.length,
    changes,
  };
}

function baseItem({ revision, createdAt, createdBy }: CommittedState): HistoryItem {
  return {
    revision,
    at: createdAt,
    by: createdBy,
    message: null,
    rollbackOf: null,
    areChangesKnown: false,
    changeCount: 0,
    changes: [],
  };
}

function shortened(item: HistoryItem): HistoryItem {
  return { ...item, changes: item.changes.slice(0, maxListedChanges) };
}

function documentsOf(history: History, { commit, changes }: HistoryRecord): DocumentDiff[] {
  const before = history.stateBefore(commit.revision);
  const after = new Map(commit.puts.map((stored) => [stored.key, stored]));
  return changes.map((change) => {
    const key = resourceIdKey(change);
    return {
      ...change,
      before: before?.resources.get(key)?.resource ?? null,
      after: after.get(key)?.resource ?? null,
    };
  });
}

function unknownRevision(history: History, revision: number) {
  const { head, oldestRevision } = history;
  const message =
    revision > head.revision ? `there is no revision ${revision} yet` : `revision ${revision} is no longer kept`;
  return notFound(
    message,
    `revisions ${oldestRevision ?? head.revision} to ${head.revision} are available: culvert history`,
  );
}
