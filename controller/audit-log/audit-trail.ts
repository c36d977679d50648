import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { AuditAction, AuditDetail, AuditFacts } from './audit-entry.js';
import type { AuditLog } from './audit-log.js';
import { RefusalLimit } from './refusal-limit.js';

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

export type BegunRequest = { readonly end: (outcome: AuditOutcome) => void };

/**
 * Writes requests into the audit log. What may change something is on disk before it is done, and how it ended afterwards. Of
 * refused requests, which anybody can send, a limited number is written, and the others are counted.
 */
export class AuditTrail {
  readonly #auditLog: Pick<AuditLog, 'append'>;
  readonly #log: Log;
  readonly #limit: RefusalLimit;

  constructor(init: { readonly auditLog: Pick<AuditLog, 'append'>; readonly nowMs: () => number; readonly log: Log }) {
    this.#auditLog = init.auditLog;
    this.#log = init.log;
    this.#limit = new RefusalLimit({ nowMs: init.nowMs });
  }

  /** Resolves when the request is in the log. Errors: `AUDIT_WRITE`: then do nothing. */
  async begin(request: AuditedRequest): Promise<BegunRequest> {
    const { seq } = await this.#auditLog.append({ ...request, result: 'begun', code: null, of: null, detail: {} });
    return { end: (outcome) => this.#write({ ...request, ...outcome, of: seq }) };
  }

  /** A request that was refused before anything was done. */
  refused(request: Pick<AuditFacts, 'user' | 'source'>, code: string, detail: AuditDetail): void {
    if (!this.#limit.take(request.source)) return;
    this.#write({ ...request, action: 'refused', target: null, result: 'refused', code, of: null, detail });
  }

  /** Writes how many refused requests have no line of their own. Call it now and then. */
  flush(): void {
    const left = this.#limit.takeLeftOut();
    if (left === null) return;
    const { requests, sources } = left;
    const facts = { user: 'anonymous', source: 'several', action: 'refused', target: null, result: 'refused' } as const;
    this.#write({ ...facts, code: null, of: null, detail: { requests, sources } });
  }

  #write(facts: AuditFacts): void {
    this.#auditLog.append(facts).catch((error: unknown) => {
      const code = error instanceof CulvertError ? error.code : 'INTERNAL';
      this.#log.error({ err: error, problem: code, ...facts }, 'a request is not in the audit log');
    });
  }
}
