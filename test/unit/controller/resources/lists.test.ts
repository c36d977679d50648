import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDocuments, parsingDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';

/**
 * Lists of documents, as people have them: `kubectl get -o yaml` writes `kind: List` with the server's bookkeeping, and
 * the API server writes typed lists whose items have no kind. A list may also be anywhere in a file, in any form of YAML.
 */

const policy = (name: string, spec = '{ podSelector: {} }') =>
  [
    'apiVersion: networking.k8s.io/v1',
    'kind: NetworkPolicy',
    'metadata:',
    '  creationTimestamp: null',
    `  name: ${name}`,
    '  namespace: shop',
    '  uid: 11bba160-0000-0000-0000-000000000000',
    `spec: ${spec}`,
  ].join('\n');

/** `indent`: of the dash; kubectl writes none. */
function listOf(documents: readonly string[], indent = ''): string {
  const items = documents.map((text) => `${indent}- ${text.replaceAll('\n', `\n${indent}  `)}`);
  return `apiVersion: v1\nitems:\n${items.join('\n')}\nkind: List\nmetadata:\n  resourceVersion: ""\n`;
}

const flow = (items: readonly unknown[]) => JSON.stringify({ apiVersion: 'v1', kind: 'List', items }, null, 4);

function namesOf(text: string): string[] {
  const { resources, problems } = parseDocuments(text);
  assert.deepEqual(problems.map(formatProblem), []);
  return resources.map(({ kind, metadata: { name } }) => `${kind}/${name}`);
}

function problemsOf(text: string): string[] {
  return parseDocuments(text).problems.map(formatProblem);
}

describe('a list of documents is taken as its items', () => {
  const untyped = { metadata: { name: 'x', namespace: 'shop' }, spec: { podSelector: {} } };
  const typed = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', ...untyped };
  const account = { apiVersion: 'security.istio.io/v1', kind: 'PeerAuthenticationList' };
  const cases: readonly (readonly [what: string, text: string, names: readonly string[]])[] = [
    ['as kubectl writes it', listOf([policy('a'), policy('b')]), ['NetworkPolicy/a', 'NetworkPolicy/b']],
    ['with its items indented', listOf([policy('a'), policy('b')], '  '), ['NetworkPolicy/a', 'NetworkPolicy/b']],
    [
      'with Windows line ends',
      listOf([policy('a'), policy('b')]).replaceAll('\n', '\r\n'),
      ['NetworkPolicy/a', 'NetworkPolicy/b'],
    ],
    [
      'of different kinds',
      listOf([policy('a'), 'apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }']),
      ['NetworkPolicy/a', 'Namespace/shop'],
    ],
    ['in JSON', flow([typed]), ['NetworkPolicy/x']],
    ['in JSON of one line', JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [typed] }), ['NetworkPolicy/x']],
    [
      'typed, with items that have no kind',
      JSON.stringify({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicyList', items: [untyped] }),
      ['NetworkPolicy/x'],
    ],
    [
      'typed, in block style',
      'apiVersion: security.istio.io/v1\nkind: PeerAuthenticationList\nitems:\n- metadata: { name: p }\n- metadata:\n    name: q\n',
      ['PeerAuthentication/p', 'PeerAuthentication/q'],
    ],
    [
      'in a list',
      flow([{ ...account, items: [{ metadata: { name: 'p' } }] }, typed]),
      ['PeerAuthentication/p', 'NetworkPolicy/x'],
    ],
    ['that is empty', flow([]), []],
    ['that is empty as the server writes it', JSON.stringify({ ...account, items: null }), []],
    [
      'between other documents',
      `${policy('a')}\n---\n${listOf([policy('b')])}---\n${policy('c')}\n`,
      ['NetworkPolicy/a', 'NetworkPolicy/b', 'NetworkPolicy/c'],
    ],
    [
      'with an anchor that another item uses',
      listOf([policy('a', '&s { podSelector: {} }'), policy('b', '*s')]),
      ['NetworkPolicy/a', 'NetworkPolicy/b'],
    ],
    [
      'with texts of several lines and comments',
      listOf([
        `# first\n${policy('a')}`,
        'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  annotations:\n    note: |\n      - kind: List\n      items:\n\n      - x\n',
      ]),
      ['NetworkPolicy/a', 'Namespace/shop'],
    ],
  ];
  for (const [what, text, names] of cases) it(what, () => assert.deepEqual(namesOf(text), names));
});

describe('a problem in a list', () => {
  const wrong = policy('b', '\n  podSelector: {}\n  policyTypes:\n  - Ingres');
  it('has the line of its item', () => {
    assert.deepEqual(problemsOf(listOf([policy('a'), wrong])), [
      'line:21: NetworkPolicy/shop/b: spec.policyTypes[0]: must not be "Ingres" (did you mean "Ingress"? The values are Ingress, Egress)',
    ]);
    assert.deepEqual(problemsOf(`# moved\n---\n${listOf([policy('a'), wrong], '    ')}`), [
      'line:23: NetworkPolicy/shop/b: spec.policyTypes[0]: must not be "Ingres" (did you mean "Ingress"? The values are Ingress, Egress)',
    ]);
    assert.match(
      problemsOf(flow([{ kind: 'Namespace', apiVersion: 'v1' }])).join(),
      /^line:5: items\[0\]\.metadata: is missing/,
    );
  });

  it('has its place when the item has no name', () => {
    assert.match(
      problemsOf(listOf([policy('a'), 'kind: NetworkPolicy'])).join(),
      /^line:11: items\[1\]\.apiVersion: is missing/,
    );
    assert.match(
      problemsOf(listOf(['x', '{}'])).join('\n'),
      /^line:3: items\[0\]: must be a mapping.*\nline:4: items\[1\]\.kind: /,
    );
  });

  it('has a line when it is found after parsing', () => {
    const { locations } = parseDocuments(listOf([policy('a'), policy('b')]));
    assert.equal(locations.get('NetworkPolicy.shop.b')?.lineOf(['spec', 'podSelector']), 18);
    const [single] = [parseDocuments(listOf([policy('only')])), parseDocuments(listOf([policy('only')]))];
    assert.equal(single.locations.get('NetworkPolicy.shop.only')?.lineOf(['spec']), 10);
  });

  const refused: readonly (readonly [what: string, text: string, problem: RegExp])[] = [
    [
      'an item that is written twice',
      listOf([policy('a'), policy('a')]),
      /^line:15: NetworkPolicy\/shop\/a: metadata\.name: is written twice, first in line 7/,
    ],
    ['text that is no YAML', listOf([policy('a'), 'a: [']), /^line:1[12]: is not valid YAML/],
    [
      'a list without items',
      'apiVersion: v1\nkind: List\n',
      /there is no kind "List" \(a list has its documents in the field items\)/,
    ],
    ['a list whose items are no list', 'apiVersion: v1\nkind: List\nitems: {}\n', /there is no kind "List"/],
    [
      'a list of a kind that is not taken',
      listOf(['kind: Pod\napiVersion: v1']),
      /^line:3: items\[0\]\.kind: Culvert does not take Pod/,
    ],
    ['fields that are written twice', `${listOf([policy('a')])}kind: List\n`, /the field "\w+" is written twice/],
    ['a field items that is written twice', `${listOf([policy('a')])}items: []\n`, /the field "\w+" is written twice/],
  ];
  for (const [what, text, problem] of refused)
    it(`refuses ${what}`, () => assert.match(problemsOf(text).join('\n'), problem));
});

it('a list of thousands of items is read in steps', () => {
  const reading = parsingDocuments(listOf(Array.from({ length: 2000 }, (_, index) => policy(`p${index}`))));
  let steps = 0;
  for (let step = reading.next(); step.done !== true; step = reading.next()) steps++;
  assert.ok(steps >= 2000, `${steps} steps`);
});
