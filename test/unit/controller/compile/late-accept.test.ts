import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import { registryEntries } from '../../../../controller/inventory/registry-entries.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { registryEntrySchema } from '../../../../shared/wire/registry-schema.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';
import { trustDomain } from '../../../support/rules/policy-fixture.js';

const documents = (field: string): string => `
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: db, namespace: billing, labels: { app: db } }
spec:
  addresses: [198.18.0.1]
  ports: [{ name: b, port: 5433${field} }, { name: a, port: 5432${field} }, { name: c, port: 80 }]
---
apiVersion: culvert.dev/v1
kind: Service
metadata: { name: front, namespace: billing }
spec: { vips: [198.19.0.1], ports: [{ port: 80, targetPort: b${field} }, { port: 81 }], selector: { app: db } }
---
apiVersion: culvert.dev/v1
kind: ServiceEntry
metadata: { name: bank, namespace: billing }
spec: { hosts: [bank.example], addresses: [203.0.113.0/24], ports: [{ number: 443${field} }, { number: 80 }] }
`;

/** What agents receive of the documents. */
function received(text: string) {
  const { resources, problems } = parseDocuments(text);
  assert.deepEqual(problems.map(formatProblem), []);
  const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'test', trustDomain };
  const compiled = compileSnapshot(resources, meta);
  const registered = registryEntries(resources, trustDomain);
  assert.ok('snapshot' in compiled && 'entries' in registered);
  return {
    externals: snapshotSchema.parse(JSON.parse(JSON.stringify(compiled.snapshot))).externals,
    entries: registered.entries.map((entry) => registryEntrySchema.parse(JSON.parse(JSON.stringify(entry)))),
  };
}

test('earlyAccept: false reaches the agents, and nothing else does', () => {
  const { entries, externals } = received(documents(', earlyAccept: false'));
  const [service, workload] = entries;
  assert.ok(service?.kind === 'service' && workload?.kind === 'workload');
  assert.deepEqual(workload.lateAcceptPorts, [5432, 5433]);
  assert.deepEqual(service.ports, [
    { port: 80, targetPort: 'b', earlyAccept: false },
    { port: 81, targetPort: 81 },
  ]);
  assert.deepEqual(externals[0]?.lateAcceptPorts, [443]);
});

test('true is what it is without the field, so that agents who do not know it take the documents', () => {
  assert.deepEqual(received(documents(', earlyAccept: true')), received(documents('')));
  assert.doesNotMatch(JSON.stringify(received(documents(''))), /early|late/i);
});

test('anything but true and false is refused, with its place', () => {
  const { problems } = parseDocuments(documents(', earlyAccept: "no"'));
  assert.equal(problems.length, 4);
  assert.match(formatProblem(problems[0]!), /spec\.ports\[0\]\.earlyAccept/);
});
