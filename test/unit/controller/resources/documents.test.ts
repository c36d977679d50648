import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import {
  maxDocumentLength,
  maxDocuments,
  parseDocuments,
  parsingDocuments,
} from '../../../../controller/resources/parse/parse-documents.js';
import { inTurns } from '../../../../shared/in-turns.js';
import { formatPath, formatProblem, parsePath } from '../../../../controller/resources/kinds/problem.js';
import { cpuMs } from '../../../support/machine-factor.js';
import { propertyRuns } from '../../../support/property-runs.js';

const segment = (name: string, body = '{ members: [{ namespace: billing }] }') =>
  `apiVersion: culvert.dev/v1\nkind: Segment\nmetadata: { name: ${name} }\nspec: ${body}\n`;

function problemsOf(text: string): string[] {
  return parseDocuments(text, { fileName: 'x.yaml' }).problems.map(formatProblem);
}

describe('parseDocuments', () => {
  it('reads several YAML documents and skips the empty ones', () => {
    const { resources, problems } = parseDocuments(
      `---\n---\n# only a comment\n---\n${segment('a')}---\n${segment('b')}...\n`,
    );
    assert.deepEqual(problems, []);
    assert.deepEqual(
      resources.map(({ metadata }) => metadata.name),
      ['a', 'b'],
    );
  });

  it('reads JSON, also with a byte-order mark', () => {
    const json = JSON.stringify({
      apiVersion: 'culvert.dev/v1',
      kind: 'Mesh',
      metadata: { name: 'default' },
      spec: {},
    });
    const { resources, problems } = parseDocuments(`\uFEFF${json}`);
    assert.deepEqual(problems, []);
    assert.deepEqual(resources[0]?.spec, { defaultAction: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'istio-system' });
  });

  it('reports a wrong version together with the other problems of the document', () => {
    const wrong = segment('a', '{ members: [{ cidr: 10.0.0.1/8 }] }').replace('culvert.dev/v1', 'culvert.dev/v2');
    const [first, second, ...others] = problemsOf(wrong);
    assert.match(first ?? '', /apiVersion: must not be "culvert\.dev\/v2" \(for Segment it is culvert\.dev\/v1\)$/);
    assert.match(second ?? '', /spec\.members\[0\]\.cidr: "10\.0\.0\.1\/8" has bits set/);
    assert.deepEqual(others, []);
    assert.equal(problemsOf(segment('a').replace('culvert.dev/v1', 'culvert.dev/v2')).length, 1);
  });

  it('reports all problems of all documents with their lines', () => {
    const text = [
      segment('a', '{ membrs: [] }'),
      'kind: Segmnt\napiVersion: culvert.dev/v1\n',
      segment('c', '\n  members:\n    - cidr: 10.0.0.1/8\n    - { namespace: Billing }'),
    ].join('---\n');
    assert.deepEqual(problemsOf(text), [
      'x.yaml:4: Segment/a: spec.members: is missing (for example [{ namespace: billing, labels: { app: db } }])',
      'x.yaml:4: Segment/a: spec.membrs: is not a field here (did you mean "members"?)',
      'x.yaml:6: kind: there is no kind "Segmnt" (did you mean "Segment"?)',
      'x.yaml:14: Segment/c: spec.members[0].cidr: "10.0.0.1/8" has bits set right of its prefix; the network is 10.0.0.0/8 (for example 10.0.0.0/8)',
      'x.yaml:15: Segment/c: spec.members[1].namespace: "Billing" must be at most 63 lower-case letters, digits and "-" (for example billing)',
    ]);
  });

  it('keeps reading after a document that is no YAML', () => {
    const { problems, resources } = parseDocuments(`a: [\n---\n${segment('b')}`);
    assert.equal(resources.length, 1);
    assert.match(problems[0]?.message ?? '', /^is not valid YAML: /);
    assert.equal(problems[0]?.document, 1);
    assert.equal(problems[0]?.line, 1 + 1);
  });

  it('resolves anchors and merge keys, and finds the line of a merged field', () => {
    const text =
      'apiVersion: culvert.dev/v1\nkind: Segment\nmetadata: { name: a }\nspec:\n  members:\n' +
      '    - &base\n      namespace: billing\n    - <<: *base\n      node: Host_A\n';
    const [problem, ...others] = problemsOf(text);
    assert.match(problem ?? '', /^x\.yaml:9: Segment\/a: spec\.members\[1\]\.node: /);
    assert.deepEqual(others, []);
    const valid = parseDocuments(text.replace('Host_A', 'host-a'));
    assert.deepEqual(valid.resources[0]?.spec, {
      members: [{ namespace: 'billing' }, { namespace: 'billing', node: 'host-a' }],
    });
  });

  it('costs time in proportion to the text, whatever fields and anchors it has', () => {
    const lines = 20_000;
    const many = (line: (index: number) => string): string =>
      Array.from({ length: lines }, (_, at) => line(at)).join('');
    const cpuOf = (text: string): number => {
      const before = cpuMs();
      assert.ok(problemsOf(text).length > 0);
      return cpuMs() - before;
    };
    const list = many((at) => `- a${at}\n`);
    cpuOf(list);
    const listMs = cpuOf(list);
    // The fields took 17 times as long as the list when every one was compared with all before it.
    const fields = many((at) => `a${at}: 1\n`);
    const anchors = many((at) => `a${at}: &a${at} 1\n`);
    const flow = `{${many((at) => `a${at}, `)}}`;
    for (const text of [fields, anchors, flow]) {
      const ms = cpuOf(text);
      assert.ok(ms < 12 * listMs, `${text.slice(0, 12)}… took ${ms} ms, a list of as many lines ${listMs} ms`);
    }
  });

  const refused: readonly (readonly [what: string, text: string, message: RegExp])[] = [
    ['an empty input', '', /there is no resource in the input/],
    ['a text instead of a mapping', 'hello', /must be a mapping/],
    ['a list instead of a mapping', '- a\n- b', /must be a mapping/],
    [
      'a document without a kind',
      'apiVersion: culvert.dev/v1',
      /kind: is missing \(the kinds are Mesh, Namespace, Workload/,
    ],
    [
      'a wrong API version',
      'kind: Segment\napiVersion: v1',
      /apiVersion: must not be "v1" \(for Segment it is culvert/,
    ],
    ['a kind of a later version', 'kind: TLSRoute', /by Service and Workload|VirtualService/],
    ['a kind named like an object method', 'kind: constructor', /there is no kind "constructor"/],
    ['a key that is written twice', `${segment('a')}kind: Segment\n`, /the field "\w+" is written twice/],
    [
      'a document that is written twice',
      `${segment('a')}---\n${segment('a')}`,
      /x\.yaml:8: Segment\/a: metadata\.name: is written twice, first in line 3/,
    ],
    [
      '__proto__ as a key',
      segment('a', '{ members: [{ __proto__: { namespace: x } }] }'),
      /"__proto__" is not a field/,
    ],
    ['a merge of a text', `<<: x\n`, /"<<" merges something that is no map/],
    ['a merge of an alias of a text', `x: &a 1\n<<: *a\n`, /"<<" merges something that is no map/],
    ['a merge of a list with a text', `x: &a { y: 1 }\n<<: [*a, z]\n`, /"<<" merges something that is no map/],
    ['a merge in a list', `- <<: [1]\n`, /"<<" merges something that is no map/],
    ['__proto__ in an anchor', `x: &a { __proto__: { y: 1 } }\n<<: *a\n`, /"__proto__" is not a field/],
    ['an unknown tag', '!!js/function "x"', /Unresolved tag/],
    ['an alias without an anchor', 'a: *nothing', /an alias has no anchor/],
    ['an alias of itself', 'a: &a [*a]', /kind: is missing|alias/],
    ['a bomb of aliases', aliasBomb(), /its aliases expand to too much/],
    [
      'a text that aliases repeat beyond the limit of a document',
      `x: &x "${'x'.repeat(maxDocumentLength / 2 - 100)}"\na: *x\nb: *x\n`,
      /^x\.yaml:3: its aliases expand to too much/,
    ],
    ['thousands of aliases', `- &x y\n${'- *x\n'.repeat(2000)}`, /^x\.yaml:1002: has more than 1000 aliases/],
    [
      'thousands of aliases of many anchors',
      Array.from({ length: 100 }, (_, index) => `- &x${index} y\n${`- *x${index}\n`.repeat(20)}`).join(''),
      /has more than 1000 aliases/,
    ],
    [
      'thousands of anchors',
      Array.from({ length: 1500 }, (_, index) => `- &x${index} y\n`).join(''),
      /^x\.yaml:1001: has more than 1000 anchors/,
    ],
    ['deep nesting in flow style', '['.repeat(500_000), /^x\.yaml:1: is nested too deeply: more than 64 levels/],
    ['deep nesting in block style', '- '.repeat(100_000), /is nested too deeply: more than 64 levels/],
    ['too many fields', 'a:\n'.repeat(100_001), /^x\.yaml:100001: has more than 100000 fields and list items/],
    ['too many list items', '- a\n'.repeat(100_001), /^x\.yaml:100001: has more than 100000 fields and list items/],
    ['too many items in flow style', `[${'a,\n'.repeat(100_001)}]`, /^x\.yaml:100000: has more than 100000 fields/],
    [
      'a document that is too large',
      segment('a', `{ members: [] } # ${'x'.repeat(maxDocumentLength)}`),
      /is larger than 1048576/,
    ],
    ['too many documents', '---\nx: 1\n'.repeat(maxDocuments + 1), /is more than 20000 documents|more problems/],
  ];
  for (const [what, text, message] of refused) {
    it(`refuses ${what}`, () => {
      const { resources, problems: found } = parseDocuments(text, { fileName: 'x.yaml' });
      const problems = found.map(formatProblem);
      assert.ok(
        problems.some((problem) => message.test(problem)),
        problems.slice(0, 3).join('\n'),
      );
      assert.ok(resources.length <= 1);
    });
  }

  it('takes aliases within the limit of a document', () => {
    const text = `${segment('a')}---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: x\n  annotations:\n`;
    const annotations = `    a: &x "${'x'.repeat(300_000)}"\n    b: *x\n    c: *x\n`;
    assert.deepEqual(problemsOf(text + annotations), []);
  });

  it('names in its advice what is written, not what was read', () => {
    const label = (text: string) => problemsOf(segment('a', `{ members: [{ labels: { version: ${text} } }] }`)).join();
    const scalars = ['1.10', '010', '1e3', '0x1F', 'true', '-0', '12345678901234567890', '.inf'];
    for (const text of scalars) assert.ok(label(text).endsWith(`${text} (put it in quotes: "${text}")`), label(text));
    for (const text of ['null', '~']) assert.match(label(text), new RegExp(`has no value .*in quotes: "${text}"`));
    assert.match(label(''), /has no value \(for example api\)/);
    const rule = (ports: string) =>
      problemsOf(
        `apiVersion: culvert.dev/v1\nkind: SegmentationRule\nmetadata: { name: a }\nspec: { action: allow, ports: [${ports}] }`,
      ).join();
    assert.match(rule('0x1FFFF'), /spec\.ports\[0\]: 0x1FFFF must be a port/);
  });

  it('reads a text again as it was read before, at other lines and with what else is wrong', async () => {
    const text = `${segment('a')}---\n${segment('b')}`;
    const first = parseDocuments(text);
    const again = await inTurns(
      parsingDocuments(`# moved\n\n---\n${segment('a')}---\n${segment('b')}---\n${segment('b')}`),
    );
    assert.equal(again.resources[1], first.resources[1]);
    assert.equal(again.locations.get('Segment.-.b')?.lineOf(['metadata', 'name']), 11);
    assert.equal(first.locations.get('Segment.-.b')?.lineOf(['metadata', 'name']), 8);
    assert.deepEqual(again.problems.map(formatProblem), [
      'line:16: Segment/b: metadata.name: is written twice, first in line 11 (keep one of the two, or give one another name)',
    ]);
  });

  it('takes a marker for one only where YAML does', () => {
    const comment = segment('a', '\n  members:\n    - namespace: billing\n    # ---\n    - namespace: x\n');
    const indented = `${segment('b')}# text\n ---\n`;
    assert.equal(parseDocuments(comment).resources.length, 1);
    assert.match(problemsOf(indented).join(), /is not valid YAML/);
    const directive = `%YAML 1.2\n---\n${segment('c')}...\n%YAML 1.2\n---\n${segment('d')}`;
    assert.deepEqual(
      parseDocuments(directive).resources.map(({ metadata }) => metadata.name),
      ['c', 'd'],
    );
    const sameLine = `--- ${JSON.stringify({ apiVersion: 'culvert.dev/v1', kind: 'Mesh', metadata: { name: 'default' }, spec: {} })}\n---\r\n${segment('e')}`;
    assert.equal(parseDocuments(sameLine).resources.length, 2);
  });

  it('lists at most 200 problems and counts the rest', () => {
    const { problems } = parseDocuments('---\nkind: Nothing\n'.repeat(250));
    assert.equal(problems.length, 201);
    assert.match(problems.at(-1)?.message ?? '', /and 50 more problems/);
  });
});

describe('formatPath', () => {
  const cases: readonly (readonly [PropertyKey[], string])[] = [
    [[], ''],
    [['spec', 'from', 0, 'segment'], 'spec.from[0].segment'],
    [['metadata', 'labels', 'app.kubernetes.io/name'], 'metadata.labels["app.kubernetes.io/name"]'],
  ];
  it('is read again by parsePath', () => {
    for (const [path] of cases) assert.deepEqual(parsePath(formatPath(path)), path);
    const segments = fc.array(fc.oneof(fc.string(), fc.nat()));
    fc.assert(
      fc.property(segments, (path) => assert.deepEqual(parsePath(formatPath(path)), path)),
      { numRuns: propertyRuns(200) },
    );
  });
  for (const [path, text] of cases)
    it(`writes ${JSON.stringify(path)} as "${text}"`, () => assert.equal(formatPath(path), text));
});

function aliasBomb(): string {
  const levels = ['a: &l0 [x, x, x, x, x, x, x, x, x]'];
  for (let level = 1; level < 9; level++) {
    levels.push(`k${level}: &l${level} [${Array.from({ length: 9 }, () => `*l${level - 1}`).join(', ')}]`);
  }
  return levels.join('\n');
}
