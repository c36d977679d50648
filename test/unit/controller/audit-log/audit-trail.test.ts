import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AuditFacts } from '../../../../controller/audit-log/audit-entry.js';
import type { AuditLog } from '../../../../controller/audit-log/audit-log.js';
import { AuditTrail, stranger } from '../../../../controller/audit-log/audit-trail.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';

function trailOf(): { readonly trail: AuditTrail; readonly lines: AuditFacts[] } {
  const lines: AuditFacts[] = [];
  const append = (facts: AuditFacts): ReturnType<AuditLog['append']> => {
    lines.push(facts);
    return Promise.resolve({ seq: lines.length } as Awaited<ReturnType<AuditLog['append']>>);
  };
  return { trail: new AuditTrail({ auditLog: { append }, nowMs: () => 0, log: silentLog }), lines };
}

test('what a user is refused has its line, however many requests without a credential come, also from the same address', () => {
  const { trail, lines } = trailOf();
  for (let at = 0; at < 500; at++) {
    trail.refused({ user: stranger, source: `198.18.0.${at % 250}` }, 'UNAUTHORIZED', {});
  }
  const before = lines.length;
  assert.equal(before, 200);
  trail.refused({ user: 'mallory', source: '198.18.0.1' }, 'FORBIDDEN', { route: '/v1/tokens' });
  assert.deepEqual(
    lines.slice(before).map(({ user, code }) => [user, code]),
    [['mallory', 'FORBIDDEN']],
  );
  for (let at = 0; at < 30; at++) trail.refused({ user: 'mallory', source: `198.18.1.${at}` }, 'FORBIDDEN', {});
  trail.flush();
  const counted = lines.slice(-2).map(({ user, detail }) => ({ user, ...detail }));
  assert.deepEqual(counted, [
    { user: stranger, requests: 300, sources: 250 },
    { user: 'several', requests: 11, users: ['mallory'] },
  ]);
});

test('a host with many addresses of IPv6 is one stranger, and leaves lines for others', () => {
  const { trail, lines } = trailOf();
  for (let at = 0; at < 300; at++) {
    trail.refused({ user: stranger, source: `2001:db8::${at.toString(16)}` }, 'UNAUTHORIZED', {});
  }
  assert.equal(lines.length, 20);
  trail.refused({ user: stranger, source: '2001:db8:0:1::1' }, 'UNAUTHORIZED', {});
  assert.equal(lines.length, 21);
  trail.flush();
  assert.deepEqual(lines.at(-1)?.detail, { requests: 280, sources: 1 });
});
