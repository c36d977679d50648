import type { AuditNote, AuditTrail, BegunRequest } from '../audit-log/audit-trail.js';
import { CulvertError } from '../../shared/errors.js';
import { toErrorAnswer } from './api-error.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/**
 * Runs a route between two lines of the audit log. Errors: `AUDIT_WRITE` (the route did not run, or changed nothing), and
 * those of the route.
 */
export async function runAudited(
  route: Route & { readonly audit: NonNullable<Route['audit']> },
  request: Omit<ApiRequest, 'note' | 'begin'>,
  trail: Pick<AuditTrail, 'begin' | 'unchanged'>,
): Promise<ApiAnswer> {
  const { subject: user, source } = request;
  const { action, target, beginsLate = false } = route.audit;
  const asked = { user, source, action, target: target?.(request) ?? null };
  let note: AuditNote = {};
  const own: { begun: BegunRequest | null } = { begun: null };
  const begin = async (): Promise<void> => {
    own.begun ??= await trail.begin({ ...asked, action: note.action ?? action, target: note.target ?? asked.target });
  };
  if (!beginsLate) await begin();
  const end = (result: 'done' | 'refused' | 'failed', code: string | null): void => {
    const outcome = { result, code, ...note, detail: note.detail ?? {} };
    if (own.begun === null) trail.unchanged(asked, outcome);
    else own.begun.end(outcome);
  };
  try {
    const answer = await route.handle({
      ...request,
      begin,
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
