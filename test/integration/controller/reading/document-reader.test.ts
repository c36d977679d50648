import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DocumentReader } from '../../../../controller/api/reading/document-reader.js';
import { patientMs } from '../../../lab/patience.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import {
  apply,
  ruleDocument,
  silentLog,
  startedController,
  temporaryDirectory,
} from '../../../support/controller/controller-fixture.js';
import type { ProblemsAnswer } from '../../../../controller/api/api-types.js';

const bodyOf = (documents: string): Buffer => Buffer.from(JSON.stringify({ documents, dryRun: true, message: 'why' }));

const long = 'x'.repeat(10_000);
const segments = Array.from(
  { length: 300 },
  (_, at) =>
    `apiVersion: culvert.dev/v1\nkind: Segment\nmetadata: { name: s${at}, annotations: { a: ${long} } }\nspec:\n  members:\n    - namespace: n${at}\n`,
).join('---\n');

test('what a thread reads is what would be read at once', async () => {
  await using reader = new DocumentReader({ log: silentLog });
  const broken = `${segments}---\nkind: Segmnt\n`;
  for (const text of [segments, broken]) {
    const { parsed, dryRun, message } = await reader.read(bodyOf(text));
    const { resources, problems, locations } = parseDocuments(text);
    assert.deepEqual([dryRun, message], [true, 'why']);
    assert.deepEqual(parsed.resources, resources);
    assert.deepEqual(parsed.problems, problems);
    assert.deepEqual([...parsed.locations.keys()], [...locations.keys()]);
    assert.deepEqual(
      [...parsed.locations.values()].map(({ document }) => document),
      [...locations.values()].map(({ document }) => document),
    );
  }
  await assert.rejects(reader.read(Buffer.from(`{ "documents": 1, "filler": "${long.repeat(10)}" }`)), {
    code: 'BAD_REQUEST',
    message: /documents/,
  });
});

test('a problem that is found after the reading has its line all the same', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const rule = `apiVersion: culvert.dev/v1\nkind: SegmentationRule\nmetadata: { name: a }\nspec:\n  action: allow\n  to:\n    - segment: s0\n    - segment: nowhere\n`;
  const text = `${segments}---\n${rule}`;
  const answer = await apply(controller, text);
  assert.equal(answer.status, 422, answer.text.slice(0, 300));
  const problem = (answer.body as ProblemsAnswer).problems.find(({ resource }) => resource === 'SegmentationRule/a');
  assert.ok(problem !== undefined);
  const line = text.slice(0, text.indexOf('- segment: nowhere')).split('\n').length;
  assert.deepEqual([problem.line, problem.path], [line, 'spec.to[1].segment'], formatProblem(problem));
});

test('a reading past the deadline is ended with a clear refusal, and the next one works', async () => {
  await using reader = new DocumentReader({ log: silentLog, deadlineMs: 30 });
  const slow = Array.from({ length: 80_000 }, (_, at) => `a${at}: 1\n`).join('');
  await assert.rejects(reader.read(bodyOf(slow)), {
    code: 'DOCUMENTS_TOO_SLOW',
    message: 'the documents could not be read within 0.03 s; nothing was changed',
  });
  const { parsed } = await reader.read(bodyOf(ruleDocument('a', { action: 'allow' })));
  assert.equal(parsed.resources.length, 1);
});

test('a reading that takes too much memory is ended with a clear refusal, and the next one works', async () => {
  await using reader = new DocumentReader({ log: silentLog, threadMegabytes: 48, deadlineMs: patientMs(120_000) });
  const large = Array.from({ length: 80_000 }, (_, at) => `a${at}: 1\n`).join('');
  for (let round = 0; round < 2; round++) {
    await assert.rejects(reader.read(bodyOf(large)), {
      code: 'DOCUMENTS_TOO_LARGE',
      message: 'the documents take more than 48 MiB to read; nothing was changed',
    });
    const { parsed } = await reader.read(bodyOf(segments.slice(0, 400_000).replace(/---\n[^-]*$/, '')));
    assert.ok(parsed.resources.length > 10);
  }
});

test('the memory that a reading takes is that of its documents, not of their syntax', async () => {
  // How long it takes is not what this is about.
  await using reader = new DocumentReader({ log: silentLog, threadMegabytes: 96, deadlineMs: patientMs(120_000) });
  const rules = Array.from({ length: 4000 }, (_, at) => {
    const members = Array.from({ length: 10 }, (__, member) => `    - namespace: n${at}-${member}\n`).join('');
    return `apiVersion: culvert.dev/v1\nkind: Segment\nmetadata: { name: s${at} }\nspec:\n  members:\n${members}`;
  }).join('---\n');
  const { parsed } = await reader.read(bodyOf(rules));
  assert.deepEqual([parsed.problems, parsed.resources.length], [[], 4000]);
});

test('readings that wait are bounded', async () => {
  await using reader = new DocumentReader({ log: silentLog });
  const body = bodyOf(segments.slice(0, 400_000).replace(/---\n[^-]*$/, ''));
  const outcomes = await Promise.allSettled(Array.from({ length: 12 }, () => reader.read(body)));
  const codes = outcomes.map((one) => (one.status === 'fulfilled' ? 'read' : (one.reason as { code: string }).code));
  assert.deepEqual(
    [codes.filter((code) => code === 'read').length, codes.filter((code) => code === 'READER_BUSY').length],
    [8, 4],
  );
});
