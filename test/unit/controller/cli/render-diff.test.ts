import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlowChange } from '../../../../controller/analysis/flows/diff-flows.js';
import { renderBrokenFlows, renderDiff } from '../../../../controller/cli/view/render-diff.js';
import { formatRuleRef } from '../../../../shared/policy/connection.js';

const rule = formatRuleRef({ kind: 'SegmentationRule', name: 'no-api' });
const flow: FlowChange = {
  source: 'billing/api',
  destination: 'billing/db',
  port: 5432,
  allowed: 3,
  denied: 7,
  worked: 1,
  daysSeen: 1,
  lastSeenMs: 0,
  before: rule,
  after: rule,
};
const pairs = { changed: [], addedWorkloads: [], removedWorkloads: [] };

/** The column CONNECTIONS of the only row below a title. */
function countBelow(text: string, title: string): string | undefined {
  return new RegExp(`${title}[^]*?billing/api +billing/db +5432 +(\\d+) `).exec(text)?.[1];
}

test('each table of recorded connections counts those that its title is about', () => {
  const flows = {
    broken: [flow],
    opened: [flow],
    newlyAudited: [flow],
    unknown: [{ ...flow, why: 'x' }],
    unchanged: 0,
  };
  const text = renderDiff({ pairs, flows } as unknown as Parameters<typeof renderDiff>[0], 60_000);
  const titles = ['WOULD BREAK', 'Recorded refusals', 'newly audited', 'Unknown'];
  assert.deepEqual(
    titles.map((title) => countBelow(text, title)),
    ['1', '7', '1', '10'],
  );
  assert.equal(countBelow(renderBrokenFlows([flow], 60_000), 'FROM'), '1');
});
