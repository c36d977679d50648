import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { sourceOf } from '../../shared/source-of.js';
import type { AuditAction, AuditDetail, AuditFacts } from './audit-entry.js';
import type { AuditLog } from './audit-log.js';
import { LineLimit } from './line-limit.js';

/** Who asked for what. */
export type AuditedRequest = Pick<AuditFacts, 'user' | 'source' | 'action' | 'target'>;

/** How a request ended. `action`: when it turned out to be a more special one. */
export type AuditOutcome = {
  readonly result: 'done' | 'refused' | 'failed';
  readonly code: string | null;
  readonly detail: AuditDetail;
  readonly action?: AuditAction;
  readonly target?: string | null;
};

/** What a route adds to its line, as soon as it knows. */
export type AuditNote = {
  readonly action?: AuditAction;
  readonly target?: string;
  readonly detail?: AuditDetail;
};

/** In the place of the user's name, where there is no credential. */
export const stranger = 'anonymous';

/** Users that one line names. */
const maxNamed = 50;

export type BegunRequest = { readonly end: (outcome: AuditOutcome) => void };

/**
 * Writes requests into the audit log. What may change something is on disk before it is done, and how it ended afterwards. Of
 * requests that changed nothing, which can be sent without end, a limited number is written, and the others are counted.
 */
export class AuditTrail {
  readonly #auditLog: Pick<AuditLog, 'append'>;
  readonly #log: Log;
  /** By source: an address, or the network of one host. */
  readonly #strangers: LineLimit;
  /** By user, so that what one user is refused is not hidden by what that user tries out. */
  readonly #refused: LineLimit;
  readonly #unchanged: LineLimit;

  constructor(init: { readonly auditLog: Pick<AuditLog, 'append'>; readonly nowMs: () => number; readonly log: Log }) {
    this.#auditLog = init.auditLog;
    this.#log = init.log;
    this.#strangers = new LineLimit(init);
    this.#refused = new LineLimit(init);
    this.#unchanged = new LineLimit(init);
  }

  /** Resolves when the request is in the log. Errors: `AUDIT_WRITE`: then do nothing. */
  async begin(request: AuditedRequest): Promise<BegunRequest> {
    const { seq } = await this.#auditLog.append({ ...request, result: 'begun', code: null, of: null, detail: {} });
    return { end: (outcome) => this.#write({ ...request, ...outcome, of: seq }) };
  }

  /** A request of a user that ended without a beginning in the log: it was refused or failed, or there was nothing to change. */
  unchanged(request: AuditedRequest, outcome: AuditOutcome): void {
    const limit = outcome.result === 'done' ? this.#unchanged : this.#refused;
    if (limit.take(request.user)) this.#write({ ...request, ...outcome, of: null });
  }

  /** What the controller has noticed, for which there was no request. */
  noted(action: AuditAction, detail: AuditDetail): void {
    const itself = { user: 'system', source: 'local', target: null, code: null, of: null } as const;
    this.#write({ ...itself, action, result: 'noted', detail });
  }

  /**
   * A request that was refused before it came to its route. Of a user it counts with that user's, so that requests without a
   * credential, which all can send, do not hide it.
   */
  refused(request: Pick<AuditFacts, 'user' | 'source'>, code: string, detail: AuditDetail): void {
    const { user, source } = request;
    const isWritten = user === stranger ? this.#strangers.take(sourceOf(source)) : this.#refused.take(user);
    if (!isWritten) return;
    this.#write({ ...request, action: 'refused', target: null, result: 'refused', code, of: null, detail });
  }

  /** Writes how many requests have no line of their own. Call it now and then. */
  flush(): void {
    const several = { source: 'several', target: null, code: null, of: null } as const;
    const refused = { ...several, action: 'refused', result: 'refused' } as const;
    const ofStrangers = this.#strangers.takeLeftOut();
    if (ofStrangers !== null) {
      const { requests, senders } = ofStrangers;
      this.#write({ ...refused, user: stranger, detail: { requests, sources: senders.length } });
    }
    const ofUsers = [
      [refused, this.#refused],
      [{ ...several, action: 'unchanged', result: 'noted' } as const, this.#unchanged],
    ] as const;
    for (const [facts, limit] of ofUsers) {
      const left = limit.takeLeftOut();
      if (left === null) continue;
      const { requests, senders } = left;
      this.#write({ ...facts, user: 'several', detail: { requests, users: senders.slice(0, maxNamed) } });
    }
  }

  #write(facts: AuditFacts): void {
    this.#auditLog.append(facts).catch((error: unknown) => {
      const code = error instanceof CulvertError ? error.code : 'INTERNAL';
      this.#log.error({ err: error, problem: code, ...facts }, 'a request is not in the audit log');
    });
  }
}
