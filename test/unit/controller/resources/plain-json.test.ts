import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { parse } from 'yaml';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { readPlainJson } from '../../../../controller/resources/parse/plain-json.js';

describe('a document as a program writes it', () => {
  it('is read as YAML reads it, whenever it is read without YAML', () => {
    let taken = 0;
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 })), (value) => {
        const text = JSON.stringify(value);
        const read = readPlainJson(`---\n${text}\n`);
        if (read === undefined) return;
        taken += 1;
        assert.equal(JSON.stringify(read), JSON.stringify(parse(text, { merge: true })));
      }),
      { numRuns: 300 },
    );
    assert.ok(taken > 100, `${taken} of 300`);
  });

  const others = [
    '{"a":1,"a":2}',
    '{"a": 1}',
    '{"a":1.0}',
    '{"a":12345678901234567890}',
    '{"__proto__":{}}',
    '{"<<":{"a":1}}',
    '{"a":"\\u0041"}',
    '[1]',
    '{"a":1} # mine',
    '--- {"a":1}',
    '{"a":1}\n...\n{"b":1}',
    `{"a":${'['.repeat(60)}${']'.repeat(60)}}`,
    `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    '',
  ];
  for (const text of others) {
    it(`is left to YAML when it is ${text.slice(0, 40)}`, () => assert.equal(readPlainJson(text), undefined));
  }

  const document = {
    apiVersion: 'culvert.dev/v1',
    kind: 'Segment',
    metadata: { name: 'a' },
    spec: { members: [{ external: true }] },
  };

  it('keeps its place in the input', () => {
    const text = [document, { ...document, metadata: { name: 'b' } }]
      .map((each) => JSON.stringify(each))
      .join('\n---\n');
    const { resources, problems, locations } = parseDocuments(text, { fileName: 'f' });
    assert.deepEqual([resources.map(({ metadata }) => metadata.name), problems], [['a', 'b'], []]);
    const [, place] = [...locations.values()];
    assert.deepEqual([place?.document, place?.lineOf(['spec', 'members', 0]), place?.fileName], [2, 3, 'f']);
  });

  it('is told with its line when something is wrong with it', () => {
    const { resources, problems } = parseDocuments(
      `${JSON.stringify(document)}\n---\n${JSON.stringify({ ...document, kind: 'Segmnt' })}`,
    );
    assert.equal(resources.length, 1);
    assert.deepEqual(
      problems.map(({ document: number, line, path }) => [number, line, path]),
      [[2, 3, 'kind']],
    );
  });

  it('is a problem when it is written twice', () => {
    const text = JSON.stringify({ ...document, metadata: { name: 'twice' } });
    assert.match(
      parseDocuments(`${text}\n---\n${text}`).problems[0]?.message ?? '',
      /is written twice, first in line 1/,
    );
  });
});
