import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conversations } from '../../../../controller/analysis/flows/conversations.js';
import { auditReport } from '../../../../controller/analysis/flows/audit-report.js';
import { learnRules } from '../../../../controller/analysis/learn/learn-rules.js';
import { markTellers } from '../../../../controller/flows/told-by.js';
import { workloadName } from '../../../../shared/routing/names.js';
import type { WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import type { FlowParty, FlowRecord } from '../../../../shared/wire/flows.js';
import { nodeNamed } from '../../../support/routing/names.js';
import { workloadEntry } from '../../../support/rules/analysis-fixture.js';
import { flow, outside } from '../../../support/rules/analysis-flow-world.js';
import { trustDomain } from '../../../support/rules/policy-fixture.js';

const [n1, n2] = [nodeNamed('n1'), nodeNamed('n2')];
const spare = workloadEntry('shop/spare', ['198.18.3.1'], { node: n1 });
const entries: readonly WorkloadEntry[] = [
  workloadEntry('shop/web', ['198.18.1.1'], { node: n1 }),
  workloadEntry('shop/cache', ['198.18.1.2'], { node: n1 }),
  workloadEntry('data/db', ['198.18.2.1'], { node: n2 }),
  workloadEntry('legacy/box', ['198.18.9.1'], { node: null }),
  { ...spare, capture: { ...spare.capture, excludeOutboundPorts: [5432], excludeOutboundCidrs: ['198.18.9.0/24'] } },
];

function party(name: string, isProved = true): FlowParty {
  const entry = entries.find((each) => workloadName(each) === name);
  assert.ok(entry !== undefined);
  return { workload: workloadName(entry), identity: isProved ? entry.identity : null, cidr: null };
}

const told = flow({ node: n1, source: party('shop/web'), destination: party('data/db'), connections: 9 });
const heard: FlowRecord = { ...told, node: n2, direction: 'inbound', connections: 4 };

function marked(records: readonly FlowRecord[], isOwn: (record: FlowRecord) => boolean = () => true): FlowRecord[] {
  return markTellers(records, { workload: (name) => entries.find((entry) => workloadName(entry) === name), isOwn });
}

const marksOf = (records: readonly FlowRecord[], isOwn?: (record: FlowRecord) => boolean): unknown[] =>
  marked(records, isOwn).map(({ toldBy }) => toldBy);

const learnedFrom = (flows: readonly FlowRecord[]) => learnRules({ flows, entries, trustDomain, externals: [] });

test('two agents tell the same, and each alone does not prove it', () => {
  assert.deepEqual(marksOf([told, heard]), ['both', 'both']);
  assert.deepEqual(marksOf([told]), ['one']);
  assert.deepEqual(marksOf([heard]), ['one']);
  const [both] = conversations(marked([told, heard]));
  assert.deepEqual([both?.worked, both?.confirmed, both?.toldBy], [9, 4, 'both'], 'the other end tells less');
  const [one] = conversations(marked([heard]));
  assert.deepEqual([one?.worked, one?.confirmed, one?.toldBy], [4, 0, 'destination']);
});

test('agents that tell different outcomes, ports or sources do not tell the same', () => {
  const refused: FlowRecord = { ...heard, verdict: 'deny', reason: 'POLICY_DENY' };
  assert.deepEqual(marksOf([told, refused]), ['one', 'one']);
  assert.equal(conversations(marked([told, refused]))[0]?.toldBy, 'differently');
  assert.deepEqual(marksOf([told, { ...heard, port: 22 }]), ['one', 'one']);
  const plain = { ...heard, source: party('shop/web', false) };
  assert.deepEqual(marksOf([told, plain]), ['one', 'one'], 'plaintext from an address of the workload');
});

test('where one agent is the only one to see a connection, its word is all there is', () => {
  const local = { ...told, destination: party('shop/cache') };
  const alone = [
    local,
    { ...told, destination: party('legacy/box', false) },
    { ...told, destination: outside('203.0.113.0/24') },
    { ...heard, source: party('legacy/box', false) },
    { ...heard, source: outside('203.0.113.0/24') },
    { ...heard, source: party('shop/spare', false) },
  ];
  assert.deepEqual(marksOf(alone), [undefined, undefined, undefined, undefined, undefined, undefined]);
  assert.deepEqual(marksOf([{ ...heard, source: party('shop/spare', false), port: 80 }]), ['one']);
  const untold = { ...told, source: party('shop/spare', false) };
  assert.deepEqual(marksOf([untold]), ['one'], 'what its agent leaves alone, it does not see');
  assert.deepEqual(marksOf([{ ...local, node: n2 }]), ['one'], 'it happened on another node');
});

test('an identity from an address that no workload has is never proved by the node that says so', () => {
  const source: FlowParty = { workload: null, identity: party('shop/web').identity, cidr: '198.51.100.0/24' };
  assert.deepEqual(marksOf([{ ...heard, source }]), ['one']);
});

test('what a node tells of a workload that is not known to have run there proves nothing, not even the other end', () => {
  assert.deepEqual(
    marksOf([told, heard], ({ node }) => node === n2),
    ['one', 'one'],
  );
});

test('nothing is learned from one end, and the reason stands there', () => {
  const learned = learnedFrom(marked([told]));
  assert.deepEqual(learned.rules, []);
  assert.deepEqual(
    learned.notLearned.map(({ source, destination, why }) => [source, destination, why]),
    [['shop/web', 'data/db', "only the source's agent tells it"]],
  );
  const [allow] = learnedFrom(marked([told, heard])).rules;
  assert.equal(allow?.metadata.annotations['culvert.dev/learned-connections'], '4');
  const few = learnRules({ flows: marked([told, heard]), entries, trustDomain, externals: [], minConnections: 5 });
  assert.deepEqual(few.rules, []);
});

test('no network with workloads in it, and no name of a service of the mesh, is learned as a destination outside', () => {
  const wide = learnedFrom(marked([{ ...told, destination: outside('198.18.2.0/24') }]));
  assert.deepEqual(wide.rules, []);
  assert.match(wide.notLearned[0]?.why ?? '', /^workloads have addresses in 198\.18\.2\.0\/24, such as data\/db$/);
  const named = marked([{ ...told, destination: outside('data/payments') }]);
  assert.match(learnedFrom(named).notLearned[0]?.why ?? '', /^no ServiceEntry is called data\/payments$/);
  const known = learnRules({ flows: named, entries, trustDomain, externals: [{ name: 'data/payments' }] });
  assert.deepEqual(known.rules[0]?.spec.to, [{ service: 'data/payments' }]);
});

test('an audited rule that one end alone tells is marked, also where both tell the connection', () => {
  const audited = ['SegmentationRule/no-web'];
  const tellers = (records: readonly FlowRecord[]): unknown =>
    auditReport({ flows: marked(records) }).map(({ pairs }) => pairs.map(({ toldBy }) => toldBy));
  assert.deepEqual(tellers([{ ...told, audited }, heard]), [['source']]);
  assert.deepEqual(
    tellers([
      { ...told, audited },
      { ...heard, audited },
    ]),
    [['both']],
  );
});

test('one node opens nothing that others run under the same accounts, and two nodes that tell the same do', () => {
  const replica = (name: string, node: typeof n1, last: number, account: string): WorkloadEntry =>
    workloadEntry(name, [`198.18.5.${last}`], { node, serviceAccount: account, labels: {} });
  const fleet = [
    replica('billing/api-1', n1, 1, 'api'),
    replica('billing/api-2', n2, 2, 'api'),
    replica('billing/db-1', n1, 3, 'db'),
    replica('billing/db-2', n2, 4, 'db'),
  ];
  const end = (index: number): FlowParty => {
    const entry = fleet[index] ?? assert.fail();
    return { workload: workloadName(entry), identity: entry.identity, cidr: null };
  };
  const onN1 = flow({ node: n1, source: end(0), destination: end(2) });
  const onN2 = flow({ node: n2, source: end(1), destination: end(3) });
  const peersOf = (flows: readonly FlowRecord[]): unknown =>
    learnRules({ flows, entries: fleet, trustDomain, externals: [] })
      .rules.filter(({ spec }) => spec.action === 'allow')
      .map(({ spec }) => [spec.from, spec.to]);
  assert.deepEqual(peersOf([onN1]), [[[{ workload: 'billing/api-1' }], [{ workload: 'billing/db-1' }]]]);
  const shared = [[[{ serviceAccount: 'billing/api' }], [{ serviceAccount: 'billing/db' }]]];
  assert.deepEqual(peersOf([onN1, onN2]), shared);
  const across = flow({ node: n1, source: end(0), destination: end(3) });
  assert.deepEqual(
    peersOf([
      { ...across, toldBy: 'both' },
      { ...across, node: n2, direction: 'inbound', toldBy: 'both' },
    ]),
    shared,
  );
  const plain = flow({ node: n1, direction: 'inbound', source: outside('203.0.113.0/24'), destination: end(2) });
  assert.deepEqual(peersOf([plain]), [[[{ cidr: '203.0.113.0/24' }], [{ workload: 'billing/db-1' }]]]);
  const gone: FlowParty = { workload: null, identity: end(0).identity, cidr: null };
  assert.deepEqual(peersOf([{ ...onN1, source: gone }]), []);
});
