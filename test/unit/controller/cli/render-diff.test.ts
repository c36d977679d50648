import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlowChange } from '../../../../controller/analysis/flows/diff-flows.js';
import { renderAudit } from '../../../../controller/cli/commands/audit-command.js';
import { countText } from '../../../../controller/cli/view/amounts.js';
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
  toldBy: null,
  lastSeenMs: 0,
  before: rule,
  after: rule,
};
const pairs = { changed: [], addedWorkloads: [], removedWorkloads: [], ofAdded: [] };

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

test('what is decided for new workloads is shown, also on an empty mesh', () => {
  const ofAdded = [
    {
      sources: ['billing/api'],
      destinations: ['billing/db'],
      outcomes: [
        { ports: [1, 5431], verdict: 'deny', rule },
        { ports: [5432, 5432], verdict: 'allow', rule },
      ],
    },
  ];
  const diff = { pairs: { ...pairs, addedWorkloads: ['billing/api', 'billing/db'], ofAdded }, flows: null };
  const text = renderDiff(diff as unknown as Parameters<typeof renderDiff>[0], 0);
  assert.match(text, /^New workloads: billing\/api, billing\/db$/m);
  assert.match(text, /^Denied from or to new workloads:\n[^]*billing\/api +billing\/db +1-5431 /m);
  assert.match(text, /^Allowed from or to new workloads:\n[^]*billing\/api +billing\/db +5432 /m);
});

test('one of a thing is not counted in the plural', () => {
  const flows = { broken: [], opened: [], newlyAudited: [], unknown: [], unchanged: 1 };
  const text = renderDiff({ pairs, flows } as unknown as Parameters<typeof renderDiff>[0], 0);
  assert.match(text, /^1 recorded flow would not change, 0 would break/m);
  assert.deepEqual(
    [countText(0, 'flow'), countText(1, 'flow'), countText(2, 'flow')],
    ['0 flows', '1 flow', '2 flows'],
  );
});

test('tables of recorded connections say which ends are networks because records keep no addresses', () => {
  const seen = { port: 443, daysSeen: 1, lastSeenMs: 0, toldBy: null, connections: 2 };
  const pair = { ...seen, source: 'shop/web', destination: '198.18.12.0/24' };
  const note = /^198\.18\.12\.0\/24: flow records keep networks, not addresses$/m;
  const rule = { rule: 'SegmentationRule/out', connections: 2, lastSeenMs: 0, pairs: [pair] };
  assert.match(renderAudit([rule] as unknown as Parameters<typeof renderAudit>[0], 0), note);
  const unknown = [{ ...pair, allowed: 2, denied: 0, why: 'it may be either' }];
  const pairs = { changed: [], addedWorkloads: [], removedWorkloads: [], ofAdded: [] };
  const flows = { broken: [], opened: [], newlyAudited: [], unknown, unchanged: 0 };
  const diff = (of: typeof flows): string =>
    renderDiff({ pairs, flows: of } as unknown as Parameters<typeof renderDiff>[0], 0);
  assert.match(diff(flows), note);
  assert.doesNotMatch(diff({ ...flows, unknown: [{ ...unknown[0]!, destination: '198.18.12.7/32' }] }), note);
});
