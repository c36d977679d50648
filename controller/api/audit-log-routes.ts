import { auditActions, decodeLine, type AuditEntry } from '../audit-log/audit-entry.js';
import type { AuditLog } from '../audit-log/audit-log.js';
import { AuditPages } from '../audit-log/audit-pages.js';
import { badRequest } from './api-error.js';
import type { AuditItem, AuditLines, AuditList } from './api-types.js';
import { readCount, readTimeMs } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

const defaultLimit = 100;
const maxLimit = 10_000;
/** Requests that are looked at when they are filtered by what they turned out to be. */
const maxHeld = 50_000;

/** Routes for administrators to read the audit log: as requests, and as the lines that prove themselves. */
export function auditLogRoutes({ auditLog }: { readonly auditLog: AuditLog }): Route[] {
  const pages = new AuditPages({ auditLog });

  const list = async ({ query }: ApiRequest): Promise<ApiAnswer> => {
    const action = readAction(query.get('action'));
    const isWanted = (item: AuditItem): boolean => action === null || isOf(item.action, action);
    const filter = { user: query.get('user'), sinceMs: readTimeMs(query.get('sinceMs')), isWanted };
    const limit = Math.min(
      maxLimit,
      query.get('limit') === null ? defaultLimit : readCount(query.get('limit') ?? '', 'limit'),
    );
    const { items, leftOut, unreadable } = await requests(auditLog.lines(), filter);
    const wanted = items.filter(isWanted);
    const body: AuditList = {
      requests: wanted.slice(-limit),
      leftOut: leftOut + Math.max(0, wanted.length - limit),
      unreadable,
      head: auditLog.head,
    };
    return { status: 200, body };
  };

  const lines = async ({ query }: ApiRequest): Promise<ApiAnswer> => {
    const after = query.get('after') === '0' ? 0 : readCount(query.get('after') ?? '0', 'number of a line');
    return { status: 200, body: (await pages.read(after)) satisfies AuditLines };
  };

  return [
    { method: 'GET', path: '/v1/audit-log', access: 'admin', maxBodyBytes: 0, handle: list },
    { method: 'GET', path: '/v1/audit-log/lines', access: 'admin', maxBodyBytes: 0, handle: lines },
  ];
}

/** `user` stands for `user.create` and `user.delete`. */
function isOf(action: string, asked: string): boolean {
  return action === asked || action.startsWith(`${asked}.`);
}

function readAction(text: string | null): string | null {
  if (text === null || auditActions.some((action) => isOf(action, text))) return text;
  throw badRequest(`"${text}" is not an action`, `use one of ${auditActions.join(', ')}`);
}

/** Each request once, with how it ended. `leftOut`: wanted ones before the newest that are held. */
export async function requests(
  lines: AsyncIterable<string>,
  filter: {
    readonly user: string | null;
    readonly sinceMs: number;
    readonly isWanted: (item: AuditItem) => boolean;
    readonly maxItems?: number;
  },
): Promise<{ readonly items: AuditItem[]; readonly leftOut: number; readonly unreadable: number }> {
  const { maxItems = maxHeld } = filter;
  const items = new Map<number, AuditItem>();
  let unreadable = 0;
  let leftOut = 0;
  for await (const text of lines) {
    const { entry } = decodeLine(text);
    if (entry === null) {
      unreadable++;
      continue;
    }
    if (filter.user !== null && entry.user !== filter.user) continue;
    if (Date.parse(entry.at) < filter.sinceMs) continue;
    const begun = entry.of === null ? undefined : items.get(entry.of);
    items.set(begun?.seq ?? entry.seq, toItem(entry, begun));
    const [oldest] = items.values();
    if (items.size <= maxItems || oldest === undefined) continue;
    items.delete(oldest.seq);
    if (filter.isWanted(oldest)) leftOut++;
  }
  return { items: [...items.values()], leftOut, unreadable };
}

function toItem(entry: AuditEntry, begun: AuditItem | undefined): AuditItem {
  const { seq, at, user, source, action, target, result, code, detail } = entry;
  if (begun === undefined) return { seq, at, user, source, action, target, result, code, detail };
  return { ...begun, action, target: target ?? begun.target, result, code, detail };
}
