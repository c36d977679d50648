import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildRegistryImage } from '../../../../agent/dataplane/image/registry-image.js';
import { RegistryIndex } from '../../../../agent/dataplane/route/registry-index.js';
import { learnRules } from '../../../../controller/analysis/learn/learn-rules.js';
import { runAssertions } from '../../../../controller/analysis/tests/assertions.js';
import { findDestinations, findSources } from '../../../../controller/api/party-candidates.js';
import { namedPeer } from '../../../../controller/cli/input/break-glass-peer.js';
import { resolveDestination } from '../../../../shared/routing/destination.js';
import type { RegistryEntry } from '../../../../shared/routing/registry-entry.js';
import { flow } from '../../../support/rules/analysis-flow-world.js';
import { clock, snapshotOf } from '../../../support/rules/policy-fixture.js';
import { ip, service, workload } from '../../../support/routing/registry-entries.js';
import { workloadName } from '../../../../shared/routing/names.js';

const client = workload('shop/client', ['198.18.0.1', 'fd00::1']);
const client4 = workload('shop/client4', ['198.18.0.4']);
const server = workload('shop/server', ['198.18.0.2'], { app: 'web' });
const open = snapshotOf({ mesh: { defaultAction: 'allow', outbound: 'allow' } });

/** What the agent connects to. */
function agentReaches(entries: readonly RegistryEntry[], address: string, port: number): string[] {
  const index = new RegistryIndex();
  index.apply({ image: buildRegistryImage(entries), upserts: [], removals: [] });
  const { endpoints } = resolveDestination(index, { ip: ip(address), port }, null);
  return endpoints.map((end) => `${end.workload?.name} ${end.address.ip} ${end.address.port}`);
}

/** What `culvert why` explains. */
function whyReaches(entries: readonly RegistryEntry[], text: string, port: number | null): string[] {
  return findDestinations(text, port, entries, null).map((end) => `${end.workload?.name ?? ''} ${end.ip} ${end.port}`);
}

/** What `culvert test` says of an assertion that the connection is allowed; null: it holds. */
function testFailure(entries: readonly RegistryEntry[], to: string, from = 'shop/client'): string | null {
  const [result] = runAssertions({ snapshot: open, entries, assertions: [{ from, to, expect: 'allow' }], clock });
  assert.ok(result);
  return result.failure;
}

function portsNotSeen(entries: readonly RegistryEntry[]): readonly string[] {
  const end = (entry: typeof server) => ({ workload: workloadName(entry), identity: entry.identity, cidr: null });
  const flows = [flow({ source: end(client), destination: end(server), port: 8080 })];
  return learnRules({ flows, entries, trustDomain: 'culvert.test', externals: [] }).notSeen.servicePorts;
}

describe('a service with an IPv6 VIP and an IPv4 workload', () => {
  const entries = [client, client4, server, service('shop/six', ['fd00::c8'])];

  test('is reachable through the agent, and why and test say so', () => {
    assert.deepEqual(agentReaches(entries, 'fd00::c8', 80), ['server 198.18.0.2 8080']);
    assert.deepEqual(whyReaches(entries, 'fd00::c8', 80), ['server 198.18.0.2 8080']);
    assert.deepEqual(whyReaches(entries, 'shop/six', null), ['server 198.18.0.2 8080']);
    assert.equal(testFailure(entries, '[fd00::c8]:80'), null);
    assert.equal(testFailure(entries, 'shop/six:80'), null);
    assert.equal(testFailure(entries, 'service:shop/six'), null);
    assert.deepEqual(portsNotSeen(entries), []);
  });

  test('is out of reach for a source without an IPv6 address, which cannot dial it', () => {
    const failure = testFailure(entries, '[fd00::c8]:80', 'shop/client4');
    assert.equal(failure, 'source and destination have no address of the same family');
  });

  test('is reached by its first VIP when it is called by its name', () => {
    const both = workload('shop/both', ['198.18.0.3', 'fd00::3'], { app: 'both' });
    const named = [both, service('shop/s', ['fd00::c9', '198.18.0.9'], { app: 'both' })];
    assert.deepEqual(whyReaches(named, 'shop/s', 80), agentReaches(named, 'fd00::c9', 80));
  });
});

describe('a service without a selector', () => {
  const entries = [client, server, service('shop/none', ['198.18.0.200'], {})];

  test('has no endpoints in the agent, why, test and learn', () => {
    assert.deepEqual(agentReaches(entries, '198.18.0.200', 80), []);
    assert.throws(() => whyReaches(entries, '198.18.0.200', 80), /the service shop\/none has no endpoint/);
    assert.throws(() => whyReaches(entries, 'shop/none', 80), /the service shop\/none has no endpoint/);
    assert.match(testFailure(entries, '198.18.0.200:80') ?? '', /the service shop\/none has no endpoint/);
    assert.match(testFailure(entries, 'shop/none:80') ?? '', /the service shop\/none has no endpoint/);
    assert.deepEqual(portsNotSeen(entries), ['shop/none:80']);
  });
});

describe('an address that two workloads claim', () => {
  const entries = [workload('b/second', ['198.18.0.1']), workload('a/first', ['198.18.0.1'])];

  test('has the same owner everywhere', () => {
    assert.deepEqual(agentReaches(entries, '198.18.0.1', 80), ['first 198.18.0.1 80']);
    assert.deepEqual(whyReaches(entries, '198.18.0.1', 80), ['first 198.18.0.1 80']);
    assert.equal(findSources('198.18.0.1', entries)[0]?.workload?.name, 'first');
  });
});

describe('a name', () => {
  const entries = [
    client,
    server,
    service('shop/web', ['198.18.0.200']),
    service('shop/client', ['198.18.0.201']),
    { ...workload('shop/w-1', ['198.18.0.11']), serviceAccount: 'batch' },
    { ...workload('shop/w-2', ['198.18.0.12']), serviceAccount: 'batch' },
  ];

  test('means a workload before a service, and a service before a service account', () => {
    assert.deepEqual(whyReaches(entries, 'shop/client', 80), ['client 198.18.0.1 80']);
    assert.deepEqual(whyReaches(entries, 'service:shop/client', 80), ['server 198.18.0.2 8080']);
    assert.deepEqual(namedPeer('shop/client:80', 'destination', entries), {
      peer: { workload: 'shop/client' },
      port: 80,
    });
    assert.deepEqual(namedPeer('service:shop/client:80', 'destination', entries), {
      peer: { service: 'shop/client' },
      port: 8080,
    });
  });

  test('means all workloads of a service account', () => {
    assert.deepEqual(whyReaches(entries, 'shop/batch', 80), ['w-1 198.18.0.11 80', 'w-2 198.18.0.12 80']);
    assert.deepEqual(
      findSources('sa:shop/batch', entries).map(({ workload: found }) => found?.name),
      ['w-1', 'w-2'],
    );
  });

  test('of a service cannot be a source', () => {
    assert.throws(() => findSources('shop/web', entries), /no workload or service account is called shop\/web/);
  });
});
