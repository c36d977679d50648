import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CulvertError } from '../../../../shared/errors.js';
import type { CommittedState } from '../../../../controller/release/committed-state.js';
import { formatResourceId, resourceId, resourceKey } from '../../../../controller/resources/kinds/resource-key.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import type { Problem } from '../../../../controller/resources/kinds/problem.js';
import { planFitting, type ClusterRequest } from '../../../../controller/store/cluster-change.js';

function segment(name: string): Resource {
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'Segment',
    metadata: { name },
    spec: { members: [{ namespace: 'billing' }] },
  };
}

function rule(name: string, from: string | null = null): Resource {
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name },
    spec: {
      tier: 'team',
      priority: 1000,
      action: 'allow',
      mode: 'enforce',
      ...(from === null ? {} : { from: [{ segment: from }] }),
    },
  };
}

function problem(resource: string | null, message: string): Problem {
  return { severity: 'error', fileName: null, document: null, line: null, resource, path: '', message, hint: '' };
}

/** Checks references to segments as the set does, and refuses what `isBad` says without naming it. */
async function fit(
  request: ClusterRequest,
  init: { readonly present?: readonly Resource[]; readonly isBad?: (part: ClusterRequest) => boolean } = {},
) {
  const { present = [], isBad = () => false } = init;
  let trials = 0;
  const budgetsMs: number[] = [];
  const resources = new Map(
    present.map((resource) => {
      const key = resourceKey(resource);
      return [key, { key, resource, revision: 1, appliedAt: '', appliedBy: 'x' }] as const;
    }),
  );
  const { made, refused, costly } = await planFitting(request, { resources }, async (part, budgetMs) => {
    trials++;
    budgetsMs.push(budgetMs);
    const after = new Map([...resources].map(([key, { resource }]) => [key, resource] as const));
    for (const put of part.puts) after.set(resourceKey(put), put);
    for (const key of part.deletes) after.delete(key);
    const problems = [...after.values()].flatMap((resource) => {
      if (resource.kind !== 'SegmentationRule') return [];
      const [named] = resource.spec.from ?? [];
      const isMissing = named?.segment !== undefined && !after.has(`Segment.-.${named.segment}`);
      return isMissing ? [problem(formatResourceId(resourceId(resource)), `there is no ${named.segment}`)] : [];
    });
    if (isBad(part)) problems.push(problem(null, 'a test fails'));
    if (problems.length > 0) return { problems };
    return { commit: { puts: part.puts, deletes: part.deletes } as never, release: null as never, warnings: [] };
  });
  const commit = made?.commit as ClusterRequest | null | undefined;
  return {
    puts: (commit?.puts ?? []).map(({ metadata }) => metadata.name).sort(),
    deletes: commit?.deletes ?? [],
    refused: [...refused.keys()].sort(),
    messages: [...refused.values()].flat().map(({ message }) => message),
    trials,
    costly: [...costly],
    budgetsMs,
  };
}

test('what fits is taken in one trial', async () => {
  const { puts, refused, trials } = await fit({ puts: [rule('a', 'batch'), segment('batch')], deletes: [] });
  assert.deepEqual([puts, refused, trials], [['a', 'batch'], [], 1]);
});

test('an object that an error names is left out, and the others are taken', async () => {
  const { puts, refused, messages } = await fit({ puts: [rule('a'), rule('b', 'none'), rule('c')], deletes: [] });
  assert.deepEqual([puts, refused, messages], [['a', 'c'], ['SegmentationRule.-.b'], ['there is no none']]);
});

test('an object that no error names is found among hundreds in a few trials', async () => {
  const puts = Array.from({ length: 300 }, (_, index) => rule(`r${index}`));
  const isBad = (part: ClusterRequest) => part.puts.some(({ metadata }) => metadata.name === 'r217');
  const found = await fit({ puts, deletes: [] }, { isBad });
  assert.equal(found.puts.length, 299);
  assert.deepEqual(found.refused, ['SegmentationRule.-.r217']);
  assert.ok(found.trials < 30, String(found.trials));
});

test('a segment that something still names stays, and goes together with what named it', async () => {
  const present = [segment('batch'), rule('a', 'batch')];
  const kept = await fit({ puts: [rule('b')], deletes: ['Segment.-.batch'] }, { present });
  assert.deepEqual([kept.puts, kept.deletes, kept.refused], [['b'], [], ['Segment.-.batch']]);
  const gone = await fit({ puts: [rule('a')], deletes: ['Segment.-.batch'] }, { present });
  assert.deepEqual([gone.puts, gone.deletes, gone.refused], [['a'], ['Segment.-.batch'], []]);
});

test('a change that still needs what is deleted with it is taken, and the deletion waits', async () => {
  const present = [segment('batch'), rule('a', 'batch')];
  const { puts, deletes, refused } = await fit(
    { puts: [rule('b', 'batch')], deletes: ['Segment.-.batch'] },
    { present },
  );
  assert.deepEqual([puts, deletes, refused], [['b'], [], ['Segment.-.batch']]);
});

test('one object that is too large or too much work stops neither the others nor a deletion', async () => {
  const present = [segment('old')];
  const puts = Array.from({ length: 100 }, (_, index) => rule(`r${index}`));
  for (const code of ['PAYLOAD_TOO_LARGE', 'TOO_MUCH_WORK']) {
    const isBad = (part: ClusterRequest) => {
      if (part.puts.some(({ metadata }) => metadata.name === 'r61'))
        throw new CulvertError({ code, message: 'too much' });
      return false;
    };
    const found = await fit({ puts, deletes: ['Segment.-.old'] }, { present, isBad });
    assert.deepEqual([found.puts.length, found.deletes], [99, ['Segment.-.old']]);
    assert.deepEqual([found.refused, found.messages], [['SegmentationRule.-.r61'], ['too much']]);
    assert.deepEqual(found.costly, code === 'TOO_MUCH_WORK' ? ['SegmentationRule.-.r61'] : []);
    // The first one may take as long as any change, and then nothing may.
    assert.deepEqual(
      [found.budgetsMs[0], new Set(found.budgetsMs.slice(1))],
      [60_000, new Set([code === 'TOO_MUCH_WORK' ? 10_000 : 60_000])],
    );
  }
  const failing = fit(
    { puts, deletes: [] },
    {
      isBad: () => {
        throw new CulvertError({ code: 'JOURNAL_WRITE', message: 'another' });
      },
    },
  );
  await assert.rejects(failing, { code: 'JOURNAL_WRITE' });
});

test('when everything is bad, the number of trials has a bound', async () => {
  const puts = Array.from({ length: 1000 }, (_, index) => rule(`r${index}`));
  const { trials, refused, messages } = await fit(
    { puts, deletes: [] },
    { isBad: ({ puts: [first] }) => first !== undefined },
  );
  assert.ok(trials <= 200, String(trials));
  assert.equal(refused.length, 1000);
  assert.ok(messages.some((message) => message.startsWith('is not judged yet')));
});

test('objects that are bad use up no trial of deletions, of the first object and of what was not refused before', async () => {
  const bad = Array.from({ length: 400 }, (_, index) => rule(`bad${index}`));
  const isBad = ({ puts }: ClusterRequest) => puts.some(({ metadata }) => metadata.name.startsWith('bad'));
  const present = [segment('old')];
  const deletes = ['Segment.-.old'];
  const fresh = await fit(
    { puts: [...bad, rule('judged')], deletes, first: 'SegmentationRule.-.judged' },
    { isBad, present },
  );
  assert.deepEqual([fresh.puts, fresh.deletes], [['judged'], deletes]);
  const later = new Set(bad.map(resourceKey));
  const known = await fit({ puts: [...bad, rule('good')], deletes, later }, { isBad, present });
  assert.deepEqual([known.puts, known.deletes], [['good'], deletes]);
  assert.ok(fresh.trials <= 200 && known.trials <= 200, `${fresh.trials} ${known.trials}`);
});

test('a state without documents is no problem', async () => {
  const state: Pick<CommittedState, 'resources'> = { resources: new Map() };
  const { made, refused } = await planFitting({ puts: [], deletes: ['Segment.-.gone'] }, state, async () => {
    assert.fail('there is nothing to try');
  });
  assert.deepEqual([made, refused.size], [null, 0]);
});

test('to judge one object, no other is tried once it is accepted, and few where it is refused', async () => {
  for (const standing of [50, 100]) {
    const bad = Array.from({ length: standing }, (_, index) => rule(`bad${index}`));
    const isBad = ({ puts }: ClusterRequest) => {
      if (!puts.some(({ metadata }) => metadata.name.startsWith('bad'))) return false;
      throw new CulvertError({ code: 'PAYLOAD_TOO_LARGE', message: 'too much' });
    };
    const later = new Set(bad.map(resourceKey));
    const judge = (name: string, from: string | null, others: readonly Resource[] = []) =>
      fit(
        {
          puts: [...bad, ...others, rule(name, from)],
          deletes: [],
          first: `SegmentationRule.-.${name}`,
          dryRun: true,
          later,
        },
        { isBad },
      );
    const good = await judge('good', null);
    assert.deepEqual([good.puts, good.trials, good.budgetsMs], [['good'], 1, [5000]]);
    const needing = await judge('needing', 'fresh', [segment('fresh')]);
    assert.deepEqual([needing.puts, needing.trials], [['fresh', 'needing'], 3]);
    const dangling = await judge('dangling', 'none');
    assert.ok(dangling.refused.includes('SegmentationRule.-.dangling'));
    assert.ok(dangling.messages.includes('there is no none'));
    assert.ok(dangling.trials <= 40, String(dangling.trials));
  }
});

test('no further trial is made for a client that is gone', async () => {
  const gone = new AbortController();
  let trials = 0;
  const bad = Array.from({ length: 50 }, (_, index) => rule(`bad${index}`));
  const isBad = () => {
    if (++trials === 3) gone.abort(new Error('gone'));
    return true;
  };
  const judging = fit(
    { puts: bad, deletes: [], first: 'SegmentationRule.-.bad1', dryRun: true, signal: gone.signal },
    { isBad },
  );
  await assert.rejects(judging, { message: 'gone' });
  assert.equal(trials, 3);
});
