import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HistoryItem, RolloutAnswer } from '../../../../controller/api/api-types.js';
import { renderHistory, renderRevision } from '../../../../controller/cli/commands/history-command.js';
import { lineDiff } from '../../../../controller/cli/view/line-diff.js';
import type { Segment } from '../../../../controller/resources/kinds/segment.js';
import { renderRollout } from '../../../../controller/cli/commands/rollout-command.js';
import { nodeNamed } from '../../../support/routing/names.js';

const nowMs = Date.parse('2026-01-01T01:00:00Z');
const change = { kind: 'Segment', namespace: null, name: 'batch', change: 'configured' } as const;
const item: HistoryItem = {
  revision: 7,
  at: '2026-01-01T00:55:00Z',
  by: 'admin',
  message: 'INC-42',
  rollbackOf: null,
  areChangesKnown: true,
  changeCount: 4,
  changes: [change, { ...change, name: 'web', change: 'created' }, { ...change, name: 'x', change: 'deleted' }],
};

describe('lineDiff', () => {
  it('shows kept, removed and added lines in their places', () => {
    assert.deepEqual(lineDiff('a\nb\nc\n', 'a\nx\nc\nd\n'), [' a', '-b', '+x', ' c', '+d']);
    assert.deepEqual(lineDiff('', 'a\n'), ['+a']);
    assert.deepEqual(lineDiff('a\n', ''), ['-a']);
  });

  it('gives back both texts for any two of them', () => {
    const words = ['', 'a', 'b\na', 'a\nb\na\nc', 'c\nc\na', 'b\nc\na\nb'];
    for (const before of words) {
      for (const after of words) {
        const lines = lineDiff(before, after);
        const side = (mark: string) =>
          lines.filter((line) => line[0] === ' ' || line[0] === mark).map((line) => line.slice(1));
        assert.deepEqual([side('-').join('\n'), side('+').join('\n')], [before, after]);
      }
    }
  });
});

describe('culvert history', () => {
  it('shows who changed what, the first changes by name', () => {
    assert.deepEqual(renderHistory([item, { ...item, rollbackOf: 3, message: null }], nowMs).split('\n'), [
      'REVISION  APPLIED  BY     CHANGES                                             MESSAGE',
      '7         5m ago   admin  ~Segment/batch, +Segment/web and 2 more             INC-42',
      '7         5m ago   admin  back to 3: ~Segment/batch, +Segment/web and 2 more  -',
    ]);
  });

  it('says of a revision without documents that it changed no rule', () => {
    assert.match(renderHistory([{ ...item, changeCount: 0, changes: [] }], nowMs), /admin +no rule +INC-42$/m);
  });

  it('shows a revision with the lines that it changed', () => {
    const segment = (namespace: string): Segment => ({
      apiVersion: 'culvert.dev/v1',
      kind: 'Segment',
      metadata: { name: 'batch' },
      spec: { members: [{ namespace }] },
    });
    const shown = renderRevision(
      { ...item, documents: [{ ...change, before: segment('old'), after: segment('new') }] },
      nowMs,
    );
    assert.match(
      shown,
      /^revision 7, applied by admin 5m ago \(2026-01-01T00:55:00Z\)\nINC-42\n\nSegment\/batch configured\n/,
    );
    assert.match(shown, /\n {2}- {4}- namespace: old\n {2}\+ {4}- namespace: new$/);
  });
});

describe('culvert rollout status', () => {
  it('names the agents that are behind, and why', () => {
    const answer: RolloutAnswer = {
      revision: 7,
      sequence: null,
      isComplete: false,
      isCompleteButSilent: false,
      uncaptured: null,
      acceptedEarly: null,
      agents: [
        { node: nodeNamed('a'), appliedRevision: 7, state: 'done', problem: null },
        { node: nodeNamed('b'), appliedRevision: null, state: 'pending', problem: 'it has no rules yet' },
      ],
    };
    assert.deepEqual(renderRollout(answer).split('\n'), [
      'revision 7: not complete, enforced by 1 of 2 agents',
      '',
      'NODE  STATE    REVISION  PROBLEM',
      'a     done     7         -',
      'b     pending  -         it has no rules yet',
    ]);
  });
});
