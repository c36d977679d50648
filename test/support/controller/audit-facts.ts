import type { AuditFacts } from '../../../controller/audit-log/audit-entry.js';

/** What a line of the audit log says where a test does not care. */
export const someAuditFacts: AuditFacts = {
  user: 'alice',
  source: '198.18.0.1',
  action: 'apply',
  target: null,
  result: 'begun',
  code: null,
  of: null,
  detail: {},
};
