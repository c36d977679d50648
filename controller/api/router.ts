import { CulvertError } from '../../shared/errors.js';
import type { Principal, Role } from '../access/role.js';
import type { AuditAction } from '../audit-log/audit-entry.js';
import type { AuditNote } from '../audit-log/audit-trail.js';
import { notFound } from './api-error.js';

export type ApiRequest = {
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** The raw body; empty without one. */
  readonly body: Buffer;
  /** The address of the client. */
  readonly source: string;
  /** Name of the credential's principal; `anonymous` on open routes. */
  readonly subject: string;
  /** Undefined on open routes. */
  readonly principal: Principal | undefined;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
  /**
   * Writes into the audit log that this request begins. A route with `audit.beginsLate` calls it right before it changes
   * something. Errors: `AUDIT_WRITE`: then change nothing.
   */
  readonly begin: () => Promise<void>;
  /** Adds to the line of this request in the audit log. Without effect on routes that have none. */
  readonly note: (note: AuditNote) => void;
};

export type ApiAnswer = {
  readonly status: number;
  /** Sent as JSON, or unchanged when it is a string and `contentType` is set. */
  readonly body: unknown;
  readonly contentType?: string;
};

export type Route = {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Path segments; `:name` matches one segment, which is percent-decoded. */
  readonly path: string;
  /** `open`: no credential needed; otherwise the lowest role that may use it. */
  readonly access: 'open' | Role;
  /** Requests that may change something: each is in the audit log before anything is done. `target`: what it is about. */
  readonly audit?: {
    readonly action: AuditAction;
    readonly target?: (request: Pick<ApiRequest, 'params' | 'body'>) => string | null;
    /** The route calls {@link ApiRequest.begin} itself. If it did not, nothing was changed, and its lines are bounded. */
    readonly beginsLate?: boolean;
  };
  /**
   * Of an address that is a secret: whether these are its segments. Asked before the body is read; a client that does not know
   * it finds nothing here, and one that does has proved itself.
   */
  readonly isKnown?: (params: Readonly<Record<string, string>>) => boolean;
  /** Maximum body size in bytes. */
  readonly maxBodyBytes: number;
  readonly handle: (request: ApiRequest) => Promise<ApiAnswer> | ApiAnswer;
};

export type MatchedRoute = { readonly route: Route; readonly params: Readonly<Record<string, string>> };

/** Finds the route of a request. Throws CulvertError `NOT_FOUND` or `METHOD_NOT_ALLOWED`. */
export function matchRoute(routes: readonly Route[], method: string, pathname: string): MatchedRoute {
  const matches = routes
    .map((route) => ({ route, params: matchPath(route.path, pathname) }))
    .filter((match): match is MatchedRoute => match.params !== undefined)
    .filter(({ route, params }) => route.isKnown?.(params) ?? true);
  const match = matches.find(({ route }) => route.method === method);
  if (match !== undefined) return match;
  if (matches.length === 0) throw notFound(`there is nothing at ${pathname}`, 'paths of the API begin with /v1/');
  const allowed = matches.map(({ route }) => route.method).join(', ');
  throw new CulvertError({
    code: 'METHOD_NOT_ALLOWED',
    message: `${method} is not allowed at ${pathname}`,
    hint: `use ${allowed}`,
  });
}

function matchPath(path: string, pathname: string): Record<string, string> | undefined {
  const wanted = path.split('/');
  const given = pathname.split('/');
  if (wanted.length !== given.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, segment] of wanted.entries()) {
    const value = given[index] ?? '';
    if (segment.startsWith(':')) {
      const decoded = decodeSegment(value);
      if (decoded === undefined || decoded === '') return undefined;
      params[segment.slice(1)] = decoded;
    } else if (segment !== value) return undefined;
  }
  return params;
}

function decodeSegment(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
