import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chosenCases, countOption } from '../../bench/bench-options.js';
import { caseIds } from '../../bench/case-ids.js';
import { conditionText, figureText } from '../../bench/figure-text.js';
import { caseGoals, isMet } from '../../bench/goals.js';
import { jsonCases, shortJson } from '../../bench/report-json.js';
import { ratioLines, ratioMarkdown } from '../../bench/report-table.js';
import { spreadOf } from '../../bench/spread.js';
import { summarize } from '../../bench/summary.js';
import { outcome, requestsCase } from '../../support/bench/bench-fixture.js';

describe('several measurements of one thing', () => {
  it('become their median, least and greatest', () => {
    assert.deepEqual(spreadOf([9, 1, 4]), { median: 4, min: 1, max: 9 });
    assert.deepEqual(spreadOf([8, 2]), { median: 5, min: 2, max: 8 });
    assert.deepEqual(spreadOf([10, 9, 100]), { median: 10, min: 9, max: 100 });
    assert.throws(() => spreadOf([]), RangeError);
  });
});

describe('the summary of a case', () => {
  const goal = caseGoals['keepalive-32'] ?? [];
  const others = [
    outcome('direct', 'direct', [{ value: 900, p99Us: 1 }]),
    outcome('haproxy', 'mutual', [{ value: 100, p99Us: 50 }]),
    outcome('nginx', 'mutual', [{ value: 80, p99Us: 10 }]),
    outcome('plain', 'none', [{ value: 500, p99Us: 5 }]),
  ];

  it('holds medians against the best comparator with mutual TLS, not against the others', () => {
    const rounds = [150, 120, 140].map((value) => ({ value, p99Us: 40 }));
    const summary = summarize(requestsCase, [outcome('culvert', 'culvert', rounds), ...others], goal);
    assert.equal(summary.best, 'haproxy');
    assert.equal(summary.ratio, 1.4);
    assert.equal(summary.met, true);
    assert.deepEqual(summary.paths[0]?.figures['value'], { median: 140, min: 120, max: 150 });
  });

  it('misses the goal when one of its conditions is missed', () => {
    const summary = summarize(
      requestsCase,
      [outcome('culvert', 'culvert', [{ value: 140, p99Us: 51 }]), ...others],
      goal,
    );
    assert.deepEqual(
      summary.conditions.map(({ met }) => met),
      [true, false],
    );
    assert.equal(summary.met, false);
  });

  it('takes the least for the best where less is better', () => {
    const lower = { ...requestsCase, better: 'lower' } as const;
    const summary = summarize(lower, [outcome('culvert', 'culvert', [{ value: 40, p99Us: 1 }]), ...others], []);
    assert.equal(summary.best, 'nginx');
    assert.equal(summary.ratio, 0.5);
    assert.equal(summary.met, null);
  });

  it('says nothing of a goal whose comparator was not measured, and no to one where Culvert failed', () => {
    const ours = outcome('culvert', 'culvert', [{ value: 1, p99Us: 1 }]);
    const alone = summarize(requestsCase, [ours], goal);
    assert.deepEqual([alone.best, alone.ratio, alone.met], [null, null, null]);
    const failed = { ...ours, rounds: [], failures: ['connection refused'] };
    const summary = summarize(requestsCase, [failed, ...others], goal);
    assert.deepEqual([summary.ratio, summary.met], [null, false]);
    assert.match(ratioLines([summary])[1] ?? '', /failed/);
  });

  it('has no ratio to a comparator whose figure is 0', () => {
    const zero = outcome('haproxy', 'mutual', [{ value: 0, p99Us: 1 }]);
    const summary = summarize(requestsCase, [outcome('culvert', 'culvert', [{ value: 1, p99Us: 1 }]), zero], []);
    assert.equal(summary.ratio, null);
  });
});

describe('the report', () => {
  const summary = summarize(
    requestsCase,
    [
      outcome('culvert', 'culvert', [
        { value: 52_000.123456, p99Us: 400, cpuSecondsPer10k: 0.35, largestRssBytes: 100 },
      ]),
      outcome('haproxy', 'mutual', [{ value: 50_000, p99Us: 500 }]),
    ],
    caseGoals['keepalive-32'] ?? [],
  );

  it('has the fields that a program reads, with plain numbers', () => {
    const [json] = JSON.parse(shortJson(jsonCases([summary]))) as Record<string, unknown>[];
    assert.deepEqual(json, {
      id: 'keepalive-32',
      unit: 'requests/s',
      culvert: 52_000.1,
      comparators: { haproxy: 50_000 },
      best: 'haproxy',
      ratio: 1.04,
      goal: '≥ 1.3 × best, p99 ≤ 1 × best',
      met: false,
      better: 'higher',
      paths: {
        culvert: { value: 52_000.1, cpu: 0.35, rss: 100, p99: 400 },
        haproxy: { value: 50_000, cpu: null, rss: null, p99: 500 },
      },
      figures: json?.['figures'],
      failures: {},
    });
  });

  it('is a table with one row for each case, in Markdown too', () => {
    const lines = ratioMarkdown([summary, summary]).split('\n');
    assert.equal(lines.length, 4);
    assert.ok(lines.every((line) => line.split('|').length === 8));
    assert.match(lines[2] ?? '', /52,000 requests\/s \| 50,000 requests\/s \(haproxy\) \| 1\.04 .*no: 1\.04 × best/);
  });

  it('writes figures and goals with their units', () => {
    assert.equal(figureText('value', 5.4321, 'Gbit/s'), '5.43 Gbit/s');
    assert.equal(figureText('value', 0.2, '% of a core'), '0.2% of a core');
    assert.equal(figureText('p99Us', 1234, 'x'), '1.23 ms');
    assert.equal(figureText('largestRssBytes', 250 * 1024 ** 2, 'x'), '250 MiB');
    const [bytes, rss] = caseGoals['idle-10k'] ?? [];
    assert.ok(bytes !== undefined && rss !== undefined);
    assert.equal(conditionText(bytes, 'bytes each'), '≤ 12 KiB');
    assert.equal(conditionText(rss, 'bytes each'), 'RSS < 250 MiB');
  });
});

describe('a condition', () => {
  it('counts its bound as met, except where it must stay below', () => {
    const condition = { figure: 'value', limit: 2, of: 'best' } as const;
    assert.equal(isMet({ ...condition, is: 'at least' }, 6, 3), true);
    assert.equal(isMet({ ...condition, is: 'at least' }, 5.9, 3), false);
    assert.equal(isMet({ ...condition, is: 'at most' }, 6, 3), true);
    assert.equal(isMet({ ...condition, is: 'below' }, 6, 3), false);
  });
});

describe('the options of the benchmark', () => {
  it('choose cases in the order of the report', () => {
    assert.deepEqual(chosenCases({ sameHost: false }), caseIds);
    assert.deepEqual(chosenCases({ sameHost: false, only: 'newconn, bulk-1' }), ['bulk-1', 'newconn']);
    const sameHost = chosenCases({ sameHost: true });
    assert.ok(sameHost.includes('bulk-1') && !sameHost.includes('idle-10k'));
  });

  it('are refused with the nearest name', () => {
    assert.throws(() => chosenCases({ sameHost: true, only: 'bulk-4,newcon' }), {
      code: 'BAD_OPTION',
      hint: /"newconn"/,
    });
    for (const text of ['0', '-1', '1.5', '', 'two']) {
      assert.throws(() => countOption(text, '--rounds'), { code: 'BAD_OPTION' });
    }
  });
});
