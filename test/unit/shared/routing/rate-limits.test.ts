import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { CompiledRateLimit } from '../../../../shared/policy/traffic-documents.js';
import { RateLimits } from '../../../../shared/routing/rate-limits.js';

const web = { namespace: 'shop', name: 'web' };
const api = { namespace: 'billing', serviceAccount: 'api', labels: { app: 'api', tier: 'front' } };

function limit(name: string, rest: Partial<CompiledRateLimit> = {}): CompiledRateLimit {
  const [namespace = '', short = ''] = name.split('/');
  const plain = { host: 'web.shop.svc.cluster.local', per: 'pair', max: 1, mode: 'enforce' } as const;
  return { namespace, name: short, ...plain, ...rest };
}

function keys(documents: readonly CompiledRateLimit[], client = api, port = 80): string[] | null {
  const found = new RateLimits({ documents, rootNamespace: 'root' }).for(web, client, port);
  return found === null ? null : found.map(({ key }) => key);
}

/** Each row: a document, and whether it is for connections of billing/api to shop/web:80. */
describe('a RateLimit is for a connection', () => {
  const rows: readonly (readonly [what: string, document: CompiledRateLimit, isFor: boolean])[] = [
    ['in the namespace of the service', limit('shop/l'), true],
    ['in the namespace of the client', limit('billing/l'), true],
    ['in the root namespace', limit('root/l'), true],
    ['in a third namespace', limit('other/l'), false],
    ['by a wildcard', limit('shop/l', { host: '*.shop.svc.cluster.local' }), true],
    ['for all services', limit('root/l', { host: '*' }), true],
    ['of another service', limit('shop/l', { host: 'db.shop.svc.cluster.local' }), false],
    ['of a wildcard for others', limit('shop/l', { host: '*.billing.svc.cluster.local' }), false],
    ['with the port', limit('shop/l', { ports: [443, 80] }), true],
    ['with other ports', limit('shop/l', { ports: [443] }), false],
    ['from the namespace', limit('shop/l', { sources: [{ namespace: 'billing' }] }), true],
    ['from another namespace', limit('shop/l', { sources: [{ namespace: 'shop' }] }), false],
    ['from the account', limit('shop/l', { sources: [{ serviceAccount: 'billing/api' }] }), true],
    ['from an account of that name elsewhere', limit('shop/l', { sources: [{ serviceAccount: 'shop/api' }] }), false],
    ['from labels', limit('shop/l', { sources: [{ labels: { app: 'api' } }] }), true],
    ['from labels of which one differs', limit('shop/l', { sources: [{ labels: { app: 'api', tier: 'x' } }] }), false],
    ['from one of two', limit('shop/l', { sources: [{ namespace: 'x' }, { labels: { app: 'api' } }] }), true],
    ['from all fields of one', limit('shop/l', { sources: [{ namespace: 'x', labels: { app: 'api' } }] }), false],
  ];
  for (const [what, document, isFor] of rows) {
    it(`${isFor ? '' : 'not '}${what}`, () => assert.equal(keys([document]) !== null, isFor));
  }

  it('with all others that are for it, by name', () => {
    const documents = [limit('shop/z', { host: '*' }), limit('billing/a'), limit('shop/b', { per: 'destination' })];
    assert.deepEqual(keys(documents), [
      'RateLimit/billing/a from billing/api to shop/web:80',
      'RateLimit/shop/b to shop/web:80',
      'RateLimit/shop/z from billing/api to shop/web:80',
    ]);
  });

  it('with a budget for source, destination or pair', () => {
    const of = (per: CompiledRateLimit['per'], client = api, port = 80) =>
      keys([limit('shop/l', { per })], client, port)![0];
    const other = { ...api, serviceAccount: 'job' };
    assert.equal(of('source'), 'RateLimit/shop/l from billing/api');
    assert.equal(of('source'), of('source', api, 443));
    assert.notEqual(of('source'), of('source', other));
    assert.equal(of('destination'), of('destination', other));
    assert.notEqual(of('destination'), of('destination', api, 443));
    assert.notEqual(of('pair'), of('pair', other));
    assert.notEqual(of('pair'), of('pair', api, 443));
  });
});
