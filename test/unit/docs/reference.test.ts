import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { parsePolicyTests } from '../../../controller/analysis/tests/policy-test.js';
import { kindNames } from '../../../controller/resources/kinds/resource.js';
import { parseDocuments } from '../../../controller/resources/parse/parse-documents.js';
import { fieldsOf } from '../../../controller/resources/fields/field-rows.js';
import { referenceSections } from '../../docs/reference.js';

const sections = referenceSections();
const kinds = sections.filter(({ exampleFile }) => exampleFile !== null);

test('every kind has a section with a description, and every field says what it means', () => {
  assert.deepEqual(
    kinds.map(({ title }) => title),
    [...kindNames, 'PolicyTest'],
  );
  assert.deepEqual(
    kinds.filter(({ text }) => text === ''),
    [],
  );
  const rows = sections.flatMap(({ title, rows }) => rows.map((row) => ({ ...row, name: `${title} ${row.path}` })));
  assert.ok(rows.length > 150, `${rows.length} fields`);
  const silent = rows.filter(({ meaning }) => meaning === '').map(({ name }) => name);
  assert.deepEqual(silent, [], 'say it with .describe() in controller/resources/kinds');
});

test('a field without a description is found, in lists, mappings and wrappers too', () => {
  const inner = z.strictObject({ told: z.string().describe('Is told.'), silent: z.number().default(1) });
  const schema = z.strictObject({
    list: z.array(inner).exactOptional().describe('A list.'),
    mapping: z.record(z.string(), inner).describe('A mapping.'),
    alone: z.string().exactOptional(),
  });
  const silent = fieldsOf(schema).rows.filter(({ meaning }) => meaning === '');
  assert.deepEqual(
    silent.map(({ path }) => path),
    ['list[].silent', 'mapping.*.silent', 'alone'],
  );
});

test('the example of a field is a value that the field takes', () => {
  for (const { title, rows } of sections) {
    for (const { path, example, schema } of rows.filter(({ example }) => example !== '')) {
      const { error } = schema.safeParse(parse(example));
      assert.equal(error, undefined, `${title} ${path}: ${example}`);
    }
  }
});

test('every kind has an example of its own that is valid, and each file is shown', () => {
  for (const { title, exampleFile } of kinds) {
    const text = readFileSync(exampleFile ?? '', 'utf8');
    const written = parseAllDocuments(text).map((document) => (document.toJS() as { kind: string }).kind);
    assert.deepEqual([...new Set(written)], [title]);
    const { problems } = title === 'PolicyTest' ? parsePolicyTests(text) : parseDocuments(text);
    assert.deepEqual(problems, [], exampleFile ?? '');
  }
  const shown = kinds.map(({ exampleFile }) => exampleFile?.split('/').at(-1) ?? '').sort();
  assert.deepEqual(readdirSync('deploy/docs/examples').sort(), shown);
});
