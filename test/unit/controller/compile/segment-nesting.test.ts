import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { writeSnapshot } from '../../../../shared/wire/snapshot-text.js';
import { clock, connection, meshed, trustDomain } from '../../../support/rules/policy-fixture.js';
import { propertyRuns } from '../../../support/property-runs.js';

const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'x', trustDomain };

function segment(name: string, ...members: object[]): object {
  return { apiVersion: 'culvert.dev/v1', kind: 'Segment', metadata: { name }, spec: { members } };
}

function read(documents: readonly object[]): readonly Resource[] {
  const { resources, problems } = parseDocuments(documents.map((each) => JSON.stringify(each)).join('\n---\n'));
  assert.deepEqual(problems, []);
  return resources;
}

function errorsOf(documents: readonly object[]): string[] {
  return validateSet(read(documents))
    .filter(({ severity }) => severity === 'error')
    .map(({ resource, path, message }) => `${resource}: ${path}: ${message}`);
}

/** `s0` names no segment, and each of the others the one before it. */
function chain(length: number): object[] {
  return Array.from({ length }, (_, index) =>
    segment(`s${index}`, { namespace: `n${index}` }, ...(index === 0 ? [] : [{ segment: `s${index - 1}` }])),
  );
}

const orders: readonly (readonly [name: string, order: <T>(list: readonly T[]) => T[]])[] = [
  ['innermost first', (list) => [...list]],
  ['outermost first', (list) => [...list].reverse()],
];

describe('nested segments', () => {
  for (const [name, order] of orders) {
    it(`are taken however deep they are, ${name}`, () => {
      assert.deepEqual(errorsOf(order(chain(60))), []);
      assert.deepEqual(errorsOf(order(chain(15_000))), []);
    });

    it(`decide for the innermost member and for the outermost, ${name}`, () => {
      const rule = {
        kind: 'SegmentationRule',
        metadata: { name: 'r' },
        spec: { action: 'allow', from: [{ segment: 's49' }] },
      };
      const mesh = { kind: 'Mesh', metadata: { name: 'default' }, spec: { defaultAction: 'deny' } };
      const others = [rule, mesh].map((each) => ({ apiVersion: 'culvert.dev/v1', ...each }));
      const compiled = compileSnapshot(read([...order(chain(50)), ...others]), meta);
      assert.ok('snapshot' in compiled);
      for (const [namespace, expected] of [
        ['n0', 'allow'],
        ['n49', 'allow'],
        ['n50', 'deny'],
      ] as const) {
        const source = meshed(`${namespace}/a`, '198.18.0.9');
        assert.equal(evaluate(compiled.snapshot, connection({ source }), clock).verdict, expected, namespace);
      }
    });
  }

  it('cost as much text as they are written with, however deep they are', () => {
    const bytesOf = (length: number): number => {
      const rules = Array.from({ length }, (_, index) => ({
        apiVersion: 'culvert.dev/v1',
        kind: 'SegmentationRule',
        metadata: { name: `r${index}` },
        spec: { action: 'allow', from: [{ segment: `s${index}` }] },
      }));
      const compiled = compileSnapshot(read([...chain(length), ...rules]), meta);
      assert.ok('snapshot' in compiled);
      return writeSnapshot(compiled.snapshot).length;
    };
    const [half, whole] = [bytesOf(400), bytesOf(800)];
    assert.ok(whole < 2.2 * half, `${half} bytes for 400 segments, ${whole} for 800`);
  });

  it('say where a circle is, and leave out the middle of a long one', () => {
    const circle = [...chain(20).slice(1), segment('s0', { segment: 's19' })];
    assert.deepEqual(errorsOf(circle), errorsOf([...circle].reverse()));
    assert.match(errorsOf(circle)[0] ?? '', /contains itself: s0 → s19 → s18 → s17 → s16 → s15 → … → s1 → s0$/);
  });
});

describe('the order of segments', () => {
  const count = 40;
  /** Each segment may name some of those before it; one in four sets has a circle. */
  const sets = fc
    .tuple(
      fc.array(fc.array(fc.nat(), { maxLength: 3 }), { minLength: count, maxLength: count }),
      fc.option(fc.tuple(fc.nat(count - 1), fc.nat(count - 1)), { freq: 3 }),
      fc.boolean(),
    )
    .map(([picks, circle, isLong]) => {
      const documents = picks.map((picked, index) => {
        const inner = new Set(index === 0 ? [] : picked.map((pick) => pick % index));
        if (isLong && index > 0 && index % 7 !== 0) inner.add(index - 1);
        if (circle !== null && circle[0] === index) inner.add(circle[1]);
        return segment(`s${index}`, { namespace: `n${index}` }, ...[...inner].map((at) => ({ segment: `s${at}` })));
      });
      const rule = { kind: 'SegmentationRule', metadata: { name: 'r' } };
      const spec = { action: 'allow', from: [{ segment: `s${count - 1}` }] };
      return [...documents, { apiVersion: 'culvert.dev/v1', ...rule, spec }];
    });
  const shuffled = sets.chain((set) =>
    fc.tuple(fc.constant(set), fc.shuffledSubarray(set, { minLength: set.length, maxLength: set.length })),
  );

  it('changes neither what is refused nor what is compiled', () => {
    fc.assert(
      fc.property(shuffled, ([set, other]) => {
        assert.deepEqual(errorsOf(other).sort(), errorsOf(set).sort());
        const [a, b] = [compileSnapshot(read(set), meta), compileSnapshot(read(other), meta)];
        assert.equal('snapshot' in a, 'snapshot' in b);
        if ('snapshot' in a) assert.deepEqual(b, a);
      }),
      { numRuns: propertyRuns(300) },
    );
  });
});
