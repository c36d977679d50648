import type { AuditNote, AuditTrail } from '../audit-log/audit-trail.js';
import { CulvertError } from '../../shared/errors.js';
import { toErrorAnswer } from './api-error.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Runs a route between two lines of the audit log. Errors: `AUDIT_WRITE` (the route did not run), and those of the route. */
export async function runAudited(
  route: Route & { readonly audit: NonNullable<Route['audit']> },
  request: Omit<ApiRequest, 'note'>,
  trail: Pick<AuditTrail, 'begin'>,
): Promise<ApiAnswer> {
  const { subject, source } = request;
  let note: AuditNote = {};
  const target = route.audit.target?.(request) ?? null;
  const begun = await trail.begin({ user: subject, source, action: route.audit.action, target });
  const end = (result: 'done' | 'refused' | 'failed', code: string | null): void =>
    begun.end({ result, code, ...note, detail: note.detail ?? {} });
  try {
    const answer = await route.handle({
      ...request,
      note: (more) => {
        note = { ...note, ...more, detail: { ...note.detail, ...more.detail } };
      },
    });
    const isDone = answer.status < 400;
    end(isDone ? 'done' : 'refused', isDone ? null : codeOf(answer.body));
    return answer;
  } catch (error) {
    end(toErrorAnswer(error).status >= 500 ? 'failed' : 'refused', toErrorAnswer(error).body.code);
    throw error;
  }
}

/** Codes with which a request is refused for what it is: these are in the audit log, also of routes that change nothing. */
const refusals: ReadonlySet<number> = new Set([401, 403, 429]);

export function isRefusal(error: unknown): error is CulvertError {
  return error instanceof CulvertError && refusals.has(toErrorAnswer(error).status);
}

function codeOf(body: unknown): string | null {
  const code = (body as { readonly code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : null;
}
