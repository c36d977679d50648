import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { cpuMs } from '../../../support/machine-factor.js';

/** One line a resource: kind, name, spec; the namespaced ones are in namespace billing. */
function set(...lines: readonly (readonly [kind: string, name: string, spec: object])[]): string {
  const namespaced = new Set(['Workload', 'Service', 'AuthorizationPolicy']);
  const documents = lines.map(([kind, name, spec]) => ({
    apiVersion: 'culvert.dev/v1',
    kind,
    metadata: namespaced.has(kind) ? { name, namespace: 'billing', labels: { app: name } } : { name },
    spec,
  }));
  return documents.map((document) => JSON.stringify(document)).join('\n---\n');
}

function problemsOf(text: string): string[] {
  const { resources, problems, locations } = parseDocuments(text, { fileName: 'x' });
  assert.deepEqual(problems, []);
  return validateSet(resources, locations).map((problem) => `${problem.severity} ${formatProblem(problem)}`);
}

const workload = (name: string, spec: object) => ['Workload', name, { serviceAccount: name, ...spec }] as const;
const rule = (name: string, spec: object) => ['SegmentationRule', name, spec] as const;
const segment = (name: string, ...members: object[]) => ['Segment', name, { members }] as const;
const db = workload('db', { addresses: ['198.18.0.1'] });
const accounts = { serviceAccount: 'billing/db' };

describe('validateSet', () => {
  it('finds nothing wrong with a sound set', () => {
    const text = set(
      db,
      ['Service', 'db', { vips: ['198.19.0.1'], ports: [{ port: 5432 }], selector: { app: 'db' } }],
      segment('databases', accounts),
      segment('all', { segment: 'databases' }),
      rule('a', { action: 'allow', to: [{ segment: 'all' }], priority: 1 }),
      rule('b', { action: 'deny', to: [{ segment: 'all' }], priority: 2 }),
    );
    assert.deepEqual(problemsOf(text), []);
  });

  const cases: readonly (readonly [what: string, text: string, problems: readonly RegExp[]])[] = [
    [
      'a rule that names a missing segment',
      set(segment('batch', accounts), db, rule('a', { action: 'allow', from: [{ segment: 'bathc' }], mode: 'off' })),
      [
        /^error x:5: SegmentationRule\/a: spec\.from\[0\]\.segment: there is no Segment "bathc" \(did you mean "batch"\?\)/,
      ],
    ],
    [
      'a segment that names a missing segment',
      set(segment('a', { segment: 'zzzzzz' })),
      [/^error x:1: Segment\/a: spec\.members\[0\]\.segment: there is no Segment "zzzzzz" \(apply the segment too/],
    ],
    [
      'segments in a circle',
      set(segment('a', { segment: 'b' }), segment('b', { segment: 'c' }), segment('c', { segment: 'a' })),
      [/^error x:5: Segment\/c: spec\.members\[0\]\.segment: the segment contains itself: a → b → c → a/],
    ],
    ['a segment in itself', set(segment('a', { segment: 'a' })), [/contains itself: a → a/]],
    [
      'no fault with segments 40 deep in each other',
      set(
        db,
        ...Array.from({ length: 40 }, (_, index) => segment(`s${index}`, { segment: `s${index + 1}` })),
        segment('s40', { workload: 'billing/db' }),
      ),
      [],
    ],
    [
      'an address of two workloads',
      set(db, workload('api', { addresses: ['198.18.0.2', '::ffff:198.18.0.1'] })),
      [
        /^error x:3: Workload\/billing\/api: spec\.addresses\[1\]: 198\.18\.0\.1 belongs to Workload\/billing\/db already/,
      ],
    ],
    [
      'an address of a workload and a service',
      set(db, ['Service', 's', { vips: ['198.18.0.1'], ports: [{ port: 1 }], selector: { app: 'db' } }]),
      [/^error x:3: Service\/billing\/s: spec\.vips\[0\]: 198\.18\.0\.1 belongs to Workload\/billing\/db/],
    ],
    [
      'a network namespace of two workloads',
      set(
        workload('a', { addresses: ['198.18.0.1'], node: 'n', netns: 'x' }),
        workload('b', { addresses: ['198.18.0.2'], node: 'n', netns: '/run/netns/x' }),
        workload('c', { addresses: ['198.18.0.3'], node: 'other', netns: 'x' }),
      ),
      [/^error x:3: Workload\/billing\/b: spec\.netns: \/run\/netns\/x on n belongs to Workload\/billing\/a already/],
    ],
    [
      'a network namespace of two workloads, under two names',
      set(
        workload('a', { addresses: ['198.18.0.1'], node: 'n', netns: 'x' }),
        workload('b', { addresses: ['198.18.0.2'], node: 'n', netns: '//var/run/./netns/x' }),
        workload('c', { addresses: ['198.18.0.3'], node: 'n', netns: '/var/run/netns/y' }),
      ),
      [/^error x:3: Workload\/billing\/b: spec\.netns: .* on n belongs to Workload\/billing\/a already/],
    ],
    [
      'a service account that no workload runs as',
      set(db, rule('a', { action: 'deny', from: [{ serviceAccount: 'billing/bd' }] })),
      [/^warning x:3: .*no workload runs as service account billing\/bd \(did you mean "billing\/db"\?\)/],
    ],
    [
      'a workload that does not exist',
      set(rule('a', { action: 'deny', to: [{ workload: 'billing/db' }] })),
      [/^warning x:1: .*there is no Workload billing\/db \(it matches nothing until there is one\)/],
    ],
    [
      'a rule for a service that is missing',
      set(
        ['Service', 'db', { vips: ['198.19.0.1'], ports: [{ port: 1 }], selector: { app: 'db' } }],
        workload('db', { addresses: ['198.18.0.1'] }),
        rule('a', { action: 'allow', to: [{ service: 'billing/bd' }] }),
      ),
      [
        /^warning x:5: .*spec\.to\[0\]\.service: there is no Service or ServiceEntry billing\/bd \(did you mean "billing\/db"\?/,
      ],
    ],
    [
      'unauthenticated destinations',
      set(segment('plain', { unauthenticated: true }), rule('a', { action: 'deny', to: [{ segment: 'plain' }] })),
      [/^error x:3: SegmentationRule\/a: spec\.to: contains unauthenticated, which is about who dials/],
    ],
    [
      'a service that selects nothing',
      set(db, ['Service', 's', { vips: ['198.19.0.1'], ports: [{ port: 1 }], selector: { app: 'x' } }]),
      [/^warning x:3: Service\/billing\/s: spec\.selector: no workload in namespace billing carries these labels/],
    ],
    [
      'a pattern with a star in the middle',
      set(['AuthorizationPolicy', 'a', { rules: [{ from: [{ source: { principals: ['a*b', '*c*', '*', 'd*'] } }] }] }]),
      [/^warning .*principals\[0\]: "a\*b" matches nothing/, /^warning .*principals\[1\]: "\*c\*" matches nothing/],
    ],
    [
      'two rules of one rank that contradict each other',
      set(
        db,
        rule('a', { action: 'allow', to: [accounts], ports: [5432], priority: 5 }),
        rule('b', { action: 'deny', from: [{ namespace: 'web' }], ports: ['5000-6000'], priority: 5 }),
      ),
      [
        /^error x:5: SegmentationRule\/b: spec\.priority: deny contradicts allow of SegmentationRule\/a at the same priority 5 of tier team; both match a connection from in namespace web to service account billing\/db in namespace billing, port 5432 \(give the one/,
      ],
    ],
  ];
  for (const [what, text, expected] of cases) {
    it(`finds ${what}`, () => {
      const problems = problemsOf(text);
      assert.equal(problems.length, expected.length, problems.join('\n'));
      for (const [index, pattern] of expected.entries()) assert.match(problems[index] ?? '', pattern);
    });
  }

  const compatible: readonly (readonly [what: string, a: object, b: object])[] = [
    ['of one action', { action: 'deny' }, { action: 'deny' }],
    ['of different priority', { action: 'allow', priority: 1 }, { action: 'deny', priority: 2 }],
    ['of different tiers', { action: 'allow', tier: 'platform' }, { action: 'deny', tier: 'team' }],
    ['of which one is audited', { action: 'allow' }, { action: 'deny', mode: 'audit' }],
    ['of which one is for no connection', { action: 'allow' }, { action: 'deny', rollout: 0 }],
    [
      'that are never in force together',
      { action: 'allow', expiresAt: '2026-02-01T00:00:00Z' },
      { action: 'deny', validFrom: '2026-02-01T00:00:00Z' },
    ],
    [
      'for members and for outsiders',
      { action: 'allow', to: [{ external: true }] },
      { action: 'deny', to: [{ labels: { app: 'a' } }] },
    ],
    [
      'for different labels of namespaces',
      { action: 'allow', to: [{ namespaceLabels: { team: 'a' } }] },
      { action: 'deny', to: [{ namespaceLabels: { team: 'b' } }] },
    ],
    ['of which one is off', { action: 'allow' }, { action: 'deny', mode: 'off' }],
    ['for different ports', { action: 'allow', ports: ['1-10'] }, { action: 'deny', ports: [11] }],
    [
      'for different namespaces',
      { action: 'allow', to: [{ namespace: 'a' }] },
      { action: 'deny', to: [{ namespace: 'b' }] },
    ],
    ['for different nodes', { action: 'allow', from: [{ node: 'a' }] }, { action: 'deny', from: [{ node: 'b' }] }],
    [
      'for different networks',
      { action: 'allow', from: [{ cidr: '10.0.0.0/9' }] },
      { action: 'deny', from: [{ cidr: '10.128.0.0/9' }] },
    ],
    [
      'of which one takes the other out',
      { action: 'allow', from: [{ cidr: '10.0.0.0/8', except: ['10.0.0.0/9', '10.128.0.0/10'] }] },
      { action: 'deny', from: [{ cidr: '10.0.0.0/9' }] },
    ],
    [
      'for different values of a label',
      { action: 'allow', to: [{ labels: { app: 'a', tier: 'x' } }] },
      { action: 'deny', to: [{ labels: { app: 'b' } }] },
    ],
  ];
  for (const [what, a, b] of compatible) {
    it(`takes two rules ${what}`, () => assert.deepEqual(problemsOf(set(rule('a', a), rule('b', b))), []));
  }

  const contradicting: readonly (readonly [what: string, a: object, b: object, example: RegExp])[] = [
    ['everybody', {}, {}, /from anybody to anybody, any port/],
    ['one port', { ports: ['1-10'] }, { ports: ['10-20'] }, /port 10\b/],
    [
      'an address',
      { from: [{ cidr: '10.0.0.0/8', except: ['10.0.0.0/9'] }] },
      { from: [{ cidr: '10.0.0.0/8' }] },
      /with address 10\.128\.0\.0/,
    ],
    ['labels of both', { to: [{ labels: { a: '1' } }] }, { to: [{ labels: { b: '2' } }] }, /labelled a=1,b=2/],
    ['some sources', { rollout: 1 }, {}, /from anybody/],
    [
      'some time',
      { validFrom: '2026-01-01T00:00:00Z', expiresAt: '2026-03-01T00:00:00Z' },
      { validFrom: '2026-02-01T00:00:00+01:00' },
      /any port, from 2026-01-31T23:00:00\.000Z until 2026-03-01T00:00:00\.000Z \(/,
    ],
    ['labels of namespaces', { from: [{ namespaceLabels: { a: '1' } }] }, {}, /from in a namespace labelled a=1 /],
    ['who is outside', { to: [{ external: true }] }, { to: [{ cidr: '10.0.0.0/8' }] }, /to outside the mesh with addr/],
    ['who proves nothing', { from: [{ unauthenticated: true }] }, {}, /from without an identity to/],
  ];
  for (const [what, a, b, example] of contradicting) {
    it(`refuses rules that contradict each other for ${what}`, () => {
      const [problem] = problemsOf(set(rule('a', { ...a, action: 'allow' }), rule('b', { ...b, action: 'pass' })));
      assert.match(problem ?? '', example);
    });
  }

  const ranks: readonly (readonly [what: string, peers: (index: number) => object])[] = [
    ['by destination', (index) => ({ to: [{ workload: `ns-${index}/a` }] })],
    ['by source', (index) => ({ from: [{ cidr: `10.${index >> 8}.${index & 255}.0/24` }] })],
  ];
  for (const [what, peers] of ranks) {
    it(`compares thousands of rules of one rank that differ ${what} in seconds`, () => {
      const rules = Array.from({ length: 2000 }, (_, index) =>
        rule(`r${index}`, { action: index % 2 === 0 ? 'allow' : 'deny', ...peers(index) }),
      );
      const { resources } = parseDocuments(set(...rules));
      const startedMs = cpuMs();
      assert.equal(validateSet(resources).filter(({ severity }) => severity === 'error').length, 0);
      assert.ok(cpuMs() - startedMs < 5000);
    });
  }
});
