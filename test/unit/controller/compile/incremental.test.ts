import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProblemList } from '../../../../controller/resources/parse/problem-list.js';
import { readResource } from '../../../../controller/resources/parse/read-resource.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { compileRules } from '../../../../controller/compile/compile-rules.js';

function resource(kind: string, name: string, spec: object): Resource {
  const read = readResource({ apiVersion: 'culvert.dev/v1', kind, metadata: { name }, spec });
  assert.ok('resource' in read, JSON.stringify(read));
  return read.resource;
}

const rule = (name: string, spec: object): Resource => resource('SegmentationRule', name, { action: 'allow', ...spec });
const segment = (name: string, namespace: string): Resource => resource('Segment', name, { members: [{ namespace }] });

const compile = (...resources: Resource[]) => compileRules(resources, new ProblemList({ locations: new Map() })).rules;
const errorsOf = (...resources: Resource[]): string[] =>
  validateSet(resources)
    .filter(({ severity }) => severity === 'error')
    .map((problem) => `${problem.resource ?? ''}: ${problem.message}`);

test('a rule that did not change compiles to the same object, in whatever order the documents come', () => {
  const [plain, ofSegment, batch] = [rule('a', {}), rule('b', { from: [{ segment: 'batch' }] }), segment('batch', 'x')];
  const first = compile(plain, ofSegment, batch);
  const second = compile(batch, rule('c', {}), ofSegment, plain);
  assert.equal(second[0], first[0]);
  assert.equal(second[1], first[1]);
});

test('a rule is compiled again when a segment that it names changes', () => {
  const named = rule('b', { from: [{ segment: 'batch' }] });
  assert.deepEqual(compile(named, segment('batch', 'x'))[0]?.from, [{ namespaces: ['x'], segment: 'batch' }]);
  assert.deepEqual(compile(named, segment('batch', 'y'))[0]?.from, [{ namespaces: ['y'], segment: 'batch' }]);
});

test('a missing segment is an error each time that the rule is compiled', () => {
  const named = rule('b', { from: [{ segment: 'batch' }] });
  assert.equal(errorsOf(named, segment('batch', 'x')).length, 0);
  for (let round = 0; round < 2; round++) assert.match(errorsOf(named).join(), /no Segment "batch"/);
});

test('a contradiction is found in every order of the changes that lead to it', () => {
  const allow = rule('allow', { priority: 5, to: [{ namespace: 'db' }] });
  const deny = rule('deny', { priority: 5, action: 'deny', to: [{ namespace: 'db' }] });
  const other = rule('other', { priority: 5, action: 'deny', to: [{ namespace: 'web' }] });
  assert.deepEqual(errorsOf(allow, other), []);
  for (const set of [
    [allow, other, deny],
    [deny, other, allow],
    [other, deny, allow],
  ]) {
    assert.match(errorsOf(...set).join(), /contradicts/);
    assert.match(errorsOf(...set).join(), /contradicts/);
  }
  assert.deepEqual(errorsOf(deny, other), []);
  assert.match(errorsOf(allow, deny).join(), /contradicts/);
});

test('a rule that was expired when the set was compared is compared when the time is not given', () => {
  const allow = rule('allow', { priority: 5, expiresAt: '2026-01-01T00:00:00Z' });
  const deny = rule('deny', { priority: 5, action: 'deny' });
  const later = { nowMs: Date.parse('2027-01-01T00:00:00Z') };
  const isError = ({ severity }: { severity: string }): boolean => severity === 'error';
  assert.equal(validateSet([allow, deny], new Map(), later).filter(isError).length, 0);
  assert.equal(validateSet([allow, deny]).filter(isError).length, 1);
});
