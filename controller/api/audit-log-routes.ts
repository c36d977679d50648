import { auditActions, decodeLine, type AuditEntry } from '../audit-log/audit-entry.js';
import type { AuditLog } from '../audit-log/audit-log.js';
import { badRequest } from './api-error.js';
import type { AuditItem, AuditLines, AuditList } from './api-types.js';
import { readCount, readTimeMs } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

const defaultLimit = 100;
const maxLimit = 10_000;
/** Requests that are looked at when they are filtered by what they turned out to be. */
const maxHeld = 50_000;
const maxPageBytes = 1024 * 1024;

/** Routes for administrators to read the audit log: as requests, and as the lines that prove themselves. */
export function auditLogRoutes({ auditLog }: { readonly auditLog: AuditLog }): Route[] {
  const list = async ({ query }: ApiRequest): Promise<ApiAnswer> => {
    const action = readAction(query.get('action'));
    const filter = { user: query.get('user'), sinceMs: readTimeMs(query.get('sinceMs')) };
    const limit = Math.min(
      maxLimit,
      query.get('limit') === null ? defaultLimit : readCount(query.get('limit') ?? '', 'limit'),
    );
    const { items, unreadable } = await requests(auditLog.lines(), filter);
    const wanted = items.filter((item) => action === null || isOf(item.action, action));
    const body: AuditList = {
      requests: wanted.slice(-limit),
      leftOut: Math.max(0, wanted.length - limit),
      unreadable,
      head: auditLog.head,
    };
    return { status: 200, body };
  };

  const lines = async ({ query }: ApiRequest): Promise<ApiAnswer> => {
    const after = query.get('after') === '0' ? 0 : readCount(query.get('after') ?? '0', 'number of a line');
    return { status: 200, body: await page(auditLog.lines(after), after) };
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

/** Each request once, with how it ended. */
async function requests(
  lines: AsyncIterable<string>,
  filter: { readonly user: string | null; readonly sinceMs: number },
): Promise<{ readonly items: AuditItem[]; readonly unreadable: number }> {
  const items = new Map<number, AuditItem>();
  let unreadable = 0;
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
    const [oldest] = items.keys();
    if (items.size > maxHeld && oldest !== undefined) items.delete(oldest);
  }
  return { items: [...items.values()], unreadable };
}

function toItem(entry: AuditEntry, begun: AuditItem | undefined): AuditItem {
  const { seq, at, user, source, action, target, result, code, detail } = entry;
  if (begun === undefined) return { seq, at, user, source, action, target, result, code, detail };
  return { ...begun, action, target: target ?? begun.target, result, code, detail };
}

async function page(lines: AsyncIterable<string>, after: number): Promise<AuditLines> {
  const found: string[] = [];
  let bytes = 0;
  let seq = 0;
  for await (const text of lines) {
    // A line that cannot be read has the place of the number that it had.
    seq = decodeLine(text).entry?.seq ?? seq + 1;
    if (seq <= after) continue;
    if (bytes + text.length > maxPageBytes && found.length > 0) return { lines: found, next: seq - 1 };
    found.push(text);
    bytes += text.length;
  }
  return { lines: found, next: null };
}
