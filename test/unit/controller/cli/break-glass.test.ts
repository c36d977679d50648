import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { breakGlassRule } from '../../../../controller/cli/commands/allow-command.js';
import { namedPeer } from '../../../../controller/cli/input/break-glass-peer.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { registryService, workloadEntry } from '../../../support/rules/analysis-fixture.js';

const entries = [
  workloadEntry('billing/api-1', ['198.18.0.1'], { serviceAccount: 'api' }),
  workloadEntry('billing/db', ['198.18.0.2']),
  registryService('billing/databases', {
    vips: ['198.18.1.1'],
    ports: [{ port: 5432, targetPort: 6432 }],
    selector: { app: 'db' },
  }),
];

describe('the ends of culvert allow', () => {
  const cases = [
    ['billing/db', 'source', { peer: { workload: 'billing/db' }, port: null }],
    ['billing/api', 'source', { peer: { serviceAccount: 'billing/api' }, port: null }],
    ['sa:billing/db', 'source', { peer: { serviceAccount: 'billing/db' }, port: null }],
    ['10.0.0.0/8', 'source', { peer: { cidr: '10.0.0.0/8' }, port: null }],
    ['fd00::1', 'source', { peer: { cidr: 'fd00::1/128' }, port: null }],
    ['billing/databases:5432', 'destination', { peer: { service: 'billing/databases' }, port: 6432 }],
    ['[fd00::1]:443', 'destination', { peer: { cidr: 'fd00::1/128' }, port: 443 }],
    ['203.0.113.9:443', 'destination', { peer: { cidr: '203.0.113.9/32' }, port: 443 }],
  ] as const;
  for (const [text, side, expected] of cases) {
    it(`takes ${text} as ${side}`, () => assert.deepEqual(namedPeer(text, side, entries), expected));
  }

  const refused = [
    ['billing/dbb', 'source', /nothing is registered as billing\/dbb/],
    ['billing/db:80', 'source', /has a port/],
    ['billing/db', 'destination', /has no port/],
    ['billing/databases:1', 'destination', /has no port 1/],
    ['service:billing/databases', 'source', /nothing is registered/],
    ['???', 'source', /neither a name nor an address/],
  ] as const;
  for (const [text, side, problem] of refused) {
    it(`refuses ${text} as ${side}`, () => assert.throws(() => namedPeer(text, side, entries), { message: problem }));
  }
});

describe('the rule of culvert allow', () => {
  const init = {
    source: 'billing/api',
    destination: 'billing/db:5432',
    reason: 'INC-42',
    expiresAtMs: 1_800_000_000_000,
  };
  const [from, to] = [namedPeer(init.source, 'source', entries), namedPeer(init.destination, 'destination', entries)];
  const rule = breakGlassRule({ ...init, from, to });

  it('is a document that can be applied as it is', () => {
    const { resources, problems } = parseDocuments(JSON.stringify(rule));
    assert.deepEqual(problems, []);
    assert.deepEqual(resources, [rule]);
  });

  it('has the same name for the same connection, and another for another', () => {
    assert.equal(breakGlassRule({ ...init, from, to, expiresAtMs: 1 }).metadata.name, rule.metadata.name);
    const other = breakGlassRule({ ...init, from, to: { ...to, port: 5433 } });
    assert.notEqual(other.metadata.name, rule.metadata.name);
  });
});
