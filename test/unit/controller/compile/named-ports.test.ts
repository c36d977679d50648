import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { reachability } from '../../../../controller/analysis/reach/reachability.js';
import { runAssertions } from '../../../../controller/analysis/tests/assertions.js';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import { registryEntries } from '../../../../controller/inventory/registry-entries.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { registryEntrySchema } from '../../../../shared/wire/registry-schema.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';
import { clock, trustDomain } from '../../../support/rules/policy-fixture.js';

/**
 * Named ports, as Kubernetes has them: a name stands for the port that each destination gives it to (Kubernetes,
 * NetworkPolicyPort.port and ServicePort.targetPort).
 */

function culvert(kind: string, metadata: object, spec: object): object {
  return { apiVersion: 'culvert.dev/v1', kind, metadata, spec };
}

function workload(name: string, last: number, ports?: readonly object[]): object {
  const metadata = { name, namespace: 'billing', labels: { app: name, tier: 'web' } };
  return culvert('Workload', metadata, {
    addresses: [`198.18.0.${last}`],
    node: 'host-a',
    netns: name,
    ...(ports === undefined ? {} : { ports }),
  });
}

const http = (port: number) => [{ name: 'http', port }];
const workloads = [workload('a', 1, http(80)), workload('b', 2, http(8080)), workload('c', 3), workload('d', 4)];
const denyAll = culvert('Mesh', { name: 'default' }, { defaultAction: 'deny' });

function setOf(...documents: readonly object[]) {
  const all = [...workloads, ...documents];
  const { resources, problems, locations } = parseDocuments(all.map((each) => JSON.stringify(each)).join('\n---\n'));
  assert.deepEqual(problems.map(formatProblem), []);
  const found = validateSet(resources, locations).map(formatProblem);
  const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'test', trustDomain };
  const compiled = compileSnapshot(resources, meta);
  const registered = registryEntries(resources, trustDomain);
  assert.ok('snapshot' in compiled && 'entries' in registered);
  // As agents receive both.
  const snapshot = snapshotSchema.parse(JSON.parse(JSON.stringify(compiled.snapshot)));
  const entries = registered.entries.map((entry) => registryEntrySchema.parse(JSON.parse(JSON.stringify(entry))));
  return { snapshot, entries, found };
}

/** The verdicts of connections from billing/d, or why there is none. */
function verdicts(set: ReturnType<typeof setOf>, ...destinations: readonly string[]): string {
  const assertions = destinations.map((to) => ({ from: 'billing/d', to, expect: 'allow' }) as const);
  return runAssertions({ ...set, assertions, clock })
    .map(({ found, failure }) => found?.verdict ?? failure)
    .join(' ');
}

const everyPort = ['billing/a:80', 'billing/a:8080', 'billing/b:80', 'billing/b:8080', 'billing/c:80'];

describe('named ports', () => {
  it('stand for another number in each destination of a SegmentationRule', () => {
    const set = setOf(denyAll, culvert('SegmentationRule', { name: 'r' }, { action: 'allow', ports: ['http'] }));
    assert.deepEqual(set.found, []);
    assert.equal(verdicts(set, ...everyPort), 'allow deny deny allow deny');
  });

  it('stand beside numbers and ranges', () => {
    const spec = { action: 'allow', ports: ['http', 443, '8080-8081', 'http'] };
    const set = setOf(denyAll, culvert('SegmentationRule', { name: 'r' }, spec));
    assert.deepEqual(set.snapshot.rules[0]?.ports, [[443, 443], [8080, 8081], 'http']);
    assert.equal(verdicts(set, ...everyPort, 'billing/c:443'), 'allow allow deny allow deny allow');
  });

  it('are those of the isolated workload in ingress of a NetworkPolicy, and of the peer in egress', () => {
    const policy = (spec: object) => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'p', namespace: 'billing' },
      spec: { podSelector: {}, ...spec },
    });
    const ports = [{ port: 'http' }];
    assert.equal(verdicts(setOf(policy({ ingress: [{ ports }] })), ...everyPort), 'allow deny deny allow deny');
    const egress = setOf(policy({ policyTypes: ['Egress'], egress: [{ ports }] }));
    assert.equal(verdicts(egress, ...everyPort), 'allow deny deny allow deny');
    assert.equal(verdicts(egress, '203.0.113.9:80'), 'deny');
  });

  it('are where a Service sends its connections, and what has no such port is no endpoint of it', () => {
    const spec = { vips: ['198.19.0.1'], ports: [{ port: 80, targetPort: 'http' }], selector: { tier: 'web' } };
    const set = setOf(culvert('Service', { name: 's', namespace: 'billing' }, spec));
    const [result] = runAssertions({
      ...set,
      assertions: [{ from: 'billing/d', to: 'service:billing/s:80', expect: 'deny' }],
      clock,
    });
    assert.match(result?.failure ?? '', /billing\/a/);
    const reached = ['billing/a:80', 'billing/b:8080'].map((end) => result?.failure?.includes(end));
    assert.ok(reached.includes(true));
    assert.doesNotMatch(result?.failure ?? '', /billing\/c:/);
  });

  it('are in the answer to which workloads reach each other', () => {
    const set = setOf(denyAll, culvert('SegmentationRule', { name: 'r' }, { action: 'allow', ports: ['http'] }));
    const groups = reachability({ ...set, clock });
    const to = (name: string) =>
      groups.filter(({ destinations }) => destinations.includes(name)).flatMap(({ allowed }) => allowed);
    assert.deepEqual(
      ['billing/a', 'billing/b', 'billing/c'].map((name) => to(name).map(({ ports }) => ports)),
      [[[80, 80]], [[8080, 8080]], []],
    );
  });

  it('are reported where no workload has the name', () => {
    const spec = { action: 'allow', ports: ['htpp'] };
    const service = { vips: ['198.19.0.1'], ports: [{ port: 80, targetPort: 'metrics' }], selector: { app: 'a' } };
    const { found } = setOf(
      culvert('SegmentationRule', { name: 'r' }, spec),
      culvert('Service', { name: 's', namespace: 'billing' }, service),
    );
    assert.match(
      found.join('\n'),
      /r: spec\.ports\[0\]: no workload has a port named "htpp" \(did you mean "http"\?\)/,
    );
    assert.match(found.join('\n'), /s: spec\.ports\[0\]\.targetPort: no workload has a port named "metrics"/);
  });

  const refused: readonly (readonly [ports: readonly object[], problem: RegExp])[] = [
    [[...http(80), { name: 'http', port: 81 }], /spec\.ports\[1\]\.name: "http" is listed twice/],
    [[...http(80), { name: 'web', port: 80 }], /spec\.ports\[1\]\.port: 80 is listed twice/],
    [[{ name: '80', port: 80 }], /spec\.ports\[0\]\.name: "80" must be at most 15 .* at least one letter/],
    [[{ name: 'HTTP', port: 80 }], /spec\.ports\[0\]\.name: "HTTP" must be at most 15 lower-case/],
    [[{ name: 'a--b', port: 80 }], /spec\.ports\[0\]\.name: "a--b" must be/],
    [[{ name: 'http', port: 0 }], /spec\.ports\[0\]\.port: 0 must be a port from 1 to 65535/],
  ];
  for (const [ports, problem] of refused) {
    it(`are refused as ${JSON.stringify(ports)}`, () => {
      const { problems } = parseDocuments(JSON.stringify(workload('x', 9, ports)));
      assert.match(problems.map(formatProblem).join('\n'), problem);
    });
  }
});
