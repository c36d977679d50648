import assert from 'node:assert/strict';
import { test } from 'node:test';
import { customDefinitions } from '../../../../controller/resources/custom/custom-definitions.js';
import { customKindNames } from '../../../../controller/resources/custom/custom-kinds.js';
import { culvertApiVersion } from '../../../../controller/resources/kinds/metadata.js';
import { kindInfo, kindNames } from '../../../../controller/resources/kinds/resource.js';

type Schema = { readonly [word: string]: unknown };

/** Every schema in a schema, with its path. */
function* schemasIn(schema: Schema, path = ''): Generator<readonly [path: string, schema: Schema]> {
  yield [path, schema];
  const { properties = {}, items, additionalProperties } = schema;
  for (const [name, inner] of Object.entries(properties as object))
    yield* schemasIn(inner as Schema, `${path}.${name}`);
  if (items !== undefined) yield* schemasIn(items as Schema, `${path}[]`);
  if (additionalProperties !== undefined) yield* schemasIn(additionalProperties as Schema, `${path}.*`);
}

function schemaOf(kind: string): Schema {
  const definition = customDefinitions().find(({ spec }) => (spec['names'] as { kind: string }).kind === kind);
  assert.ok(definition, kind);
  const [{ schema }] = definition.spec['versions'] as [{ schema: { openAPIV3Schema: Schema } }];
  return schema.openAPIV3Schema;
}

function schemaAt(kind: string, path: string): Schema {
  const found = [...schemasIn(schemaOf(kind))].find(([at]) => at === path);
  assert.ok(found, path);
  return found[1];
}

test('every kind of ours has a definition, but those that the inventory or the cluster itself has', () => {
  const ours = kindNames.filter((kind) => kindInfo(kind).apiVersions.includes(culvertApiVersion));
  const others = ours.filter((kind) => !(customKindNames as readonly string[]).includes(kind));
  assert.deepEqual(others, ['Namespace', 'Workload', 'Service']);
});

test('each definition is structural: a type everywhere, and nothing that Kubernetes does not take', () => {
  const taken =
    /^(?:type|description|properties|items|additionalProperties|required|enum|default|format|pattern|minimum|maximum|(?:min|max)(?:Items|Length|Properties)|x-kubernetes-[a-z-]+)$/;
  for (const kind of customKindNames) {
    for (const [path, schema] of schemasIn(schemaOf(kind))) {
      assert.ok('type' in schema || 'x-kubernetes-int-or-string' in schema, `${kind}${path}`);
      for (const word of Object.keys(schema)) assert.match(word, taken, `${kind}${path}`);
      assert.ok(!('properties' in schema && 'additionalProperties' in schema), `${kind}${path}`);
      assert.doesNotMatch(JSON.stringify(schema['pattern'] ?? ''), /\(\?<?[=!]/, `${kind}${path}`);
    }
  }
});

test('the API server keeps a field that it does not know, so that the controller refuses it by name', () => {
  for (const kind of customKindNames) {
    for (const [path, schema] of schemasIn(schemaOf(kind))) {
      if (!('properties' in schema) || path.startsWith('.status') || path === '.metadata') continue;
      assert.equal(schema['x-kubernetes-preserve-unknown-fields'], true, `${kind}${path}`);
    }
  }
});

test('every field of a specification is described', () => {
  for (const kind of customKindNames) {
    for (const [path, { description }] of schemasIn(schemaOf(kind))) {
      if (!/^\.spec(?:$|.*\.\w+$)/.test(path)) continue;
      const isNamed = /\.(?:source|operation|\w+)$/.test(path);
      if (isNamed) assert.ok(typeof description === 'string' && description.length > 5, `${kind}${path}`);
    }
  }
});

test('words, bounds, patterns and defaults of a field are those of its schema', () => {
  const rule = (path: string) => schemaAt('SegmentationRule', `.spec${path}`);
  assert.deepEqual(rule('.action')['enum'], ['allow', 'deny', 'pass']);
  assert.equal(rule('.mode')['default'], 'enforce');
  assert.deepEqual([rule('.priority')['type'], rule('.priority')['maximum']], ['integer', 1_000_000]);
  assert.equal(rule('.from')['minItems'], 1);
  assert.equal(rule('.owner')['maxLength'], 1024);
  assert.deepEqual(rule('')['required'], ['action']);
  assert.match('2027-01-31T00:00:00Z', new RegExp(String(rule('.expiresAt')['pattern'])));
  const account = new RegExp(String(rule('.from[].serviceAccount')['pattern']));
  assert.match('billing/api.v2', account);
  assert.doesNotMatch('billing', account);
  assert.equal(rule('.ports[]')['x-kubernetes-int-or-string'], true);
  assert.deepEqual(rule('.from[].external')['enum'], [true]);
});

test('what an object may not have together is said in CEL, which knows namespace as __namespace__', () => {
  const messages = (schema: Schema) =>
    ((schema['x-kubernetes-validations'] ?? []) as { message: string; rule: string }[]).map(({ message }) => message);
  const peer = schemaAt('Segment', '.spec.members[]');
  assert.ok(messages(peer).includes('segment stands alone'));
  assert.doesNotMatch(JSON.stringify(peer['x-kubernetes-validations']), /self\.namespace\b/);
  assert.deepEqual(messages(schemaAt('Mesh', '')), ['the only one is named default']);
  assert.deepEqual(messages(schemaAt('SegmentationRule', '.spec')), ['expiresAt must be later than validFrom']);
});

test('kubectl shows the columns of each kind, and whether it is accepted and in force', () => {
  const spec = customDefinitions()[0]?.spec ?? {};
  const [{ additionalPrinterColumns, subresources }] = spec['versions'] as [
    { additionalPrinterColumns: { name: string }[]; subresources: object },
  ];
  const names = additionalPrinterColumns.map(({ name }) => name);
  assert.deepEqual(names, ['Default', 'Outbound', 'mTLS', 'Accepted', 'In force', 'Reason', 'Age']);
  assert.deepEqual(subresources, { status: {} });
  assert.deepEqual((spec['names'] as { categories: string[] }).categories, ['culvert']);
});

test('no rule in CEL is in a list within a list: the API server multiplies their lengths, and refuses the definition', () => {
  for (const kind of customKindNames) {
    for (const [path, schema] of schemasIn(schemaOf(kind))) {
      const lists = path.match(/\[\]|\.\*/g)?.length ?? 0;
      assert.ok(!('x-kubernetes-validations' in schema) || lists < 2, `${kind}${path}`);
    }
  }
});
