import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { logScale } from '../../bench/log-scale.js';
import { ratioPicture } from '../../bench/ratio-picture.js';
import { caseIds } from '../../bench/case-ids.js';
import { fillReadme, fillTables, tablesFile } from '../../bench/measured-sections.js';
import { summarize } from '../../bench/summary.js';
import { outcome, requestsCase } from '../../support/bench/bench-fixture.js';

const summary = summarize(
  requestsCase,
  [
    outcome('culvert', 'culvert', [{ value: 40 }, { value: 50 }, { value: 80 }]),
    outcome('haproxy & <co>', 'mutual', [{ value: 100 }]),
    outcome('direct', 'direct', [{ value: 800 }]),
  ],
  [{ figure: 'value', is: 'at least', limit: 2, of: 'best' }],
);

describe('a logarithmic axis', () => {
  it('reaches from power of two to power of two, with 1 among its ticks', () => {
    const scale = logScale([0.3, 5], 0, 500);
    assert.deepEqual(scale.ticks, [0.25, 0.5, 1, 2, 4, 8]);
    assert.equal(scale.place(0.25), 0);
    assert.equal(scale.place(1), 200);
    assert.equal(scale.place(8), 500);
  });

  it('keeps what is farther off at its end', () => {
    const scale = logScale([1e-9, 1e9], 0, 140);
    assert.equal(scale.place(1e-9), 0);
    assert.equal(scale.place(1e9), 140);
    assert.ok(scale.ticks.length <= 15);
  });

  it('stands without values', () => {
    assert.deepEqual(logScale([], 0, 100).ticks, [0.5, 1, 2]);
  });
});

describe('the picture of the ratios', () => {
  /** Where Culvert's mark stands. */
  const ours = (svg: string): number => Number(/<circle class="ours" cx="([\d.]+)" cy="95"/.exec(svg)?.[1]);

  it('puts better to the right, whatever the unit', () => {
    const best = logScale([0.4, 8], 236, 650);
    assert.equal(ours(ratioPicture([summary])), best.place(0.5));
    const lower = summarize(
      { ...requestsCase, better: 'lower' },
      [outcome('culvert', 'culvert', [{ value: 50 }]), outcome('haproxy', 'mutual', [{ value: 100 }])],
      [],
    );
    const svg = ratioPicture([lower]);
    assert.equal(ours(svg), logScale([2], 236, 650).place(2));
    assert.match(svg, />2\.00×</);
  });

  it('is well-formed with any title, for light and dark pages, and says it in words', () => {
    const svg = ratioPicture([summary]);
    assert.match(svg, /haproxy &amp; &lt;co>/);
    assert.ok(!/&(?!amp;|lt;|quot;)/.test(svg));
    assert.match(svg, /prefers-color-scheme:dark/);
    assert.match(svg, /aria-label="[^"]*keep-alive, 32 connections 50 requests\/s 0\.50×/);
    const opened = [...svg.matchAll(/<(\w+)[^>]*[^/]>/g)].length;
    assert.equal(opened, [...svg.matchAll(/<\/\w+>/g)].length);
  });

  it('leaves out what was not measured', () => {
    const failed = { ...outcome('culvert', 'culvert', []), failures: ['refused'] };
    const svg = ratioPicture([summarize(requestsCase, [failed], [])]);
    assert.match(svg, />failed</);
    assert.ok(!svg.includes('NaN'));
  });
});

describe('the sections of measured figures', () => {
  const run = {
    machine: { cpu: 'a CPU', cores: 2, kernel: '6.1.0', node: 'v20.12.0', busyCores: 0.04 },
    rounds: 3,
    seconds: 3,
    workers: 2,
    isSameHost: false,
  };
  const text = 'before\n<!-- measured: npm run bench -->\nold $1\n<!-- end of measured -->\nafter\n';

  it('are replaced between their marks, with the machine next to the figures, and can be replaced again', () => {
    const once = fillTables(text, [summary], run);
    assert.match(once, /^before\n<!-- measured: npm run bench -->\n!\[[^\]]*\]\(\.\.\/\.\.\/test\/bench/);
    assert.match(once, /2 cores \(a CPU\), Linux 6\.1\.0, Node v20\.12\.0, 0\.0 cores busy before the run;/);
    assert.match(once, /<!-- end of measured -->\nafter\n$/);
    assert.ok(!once.includes('old'));
    assert.equal(fillTables(once, [summary], run), once);
  });

  it('of one host are others, without a picture', () => {
    const both = `${text}<!-- measured: npm run bench -- --same-host -->\nold\n<!-- end of measured -->\nlast\n`;
    const once = fillTables(both, [summary], { ...run, isSameHost: true });
    assert.ok(once.startsWith(text));
    assert.ok(!once.slice(text.length).includes('old'));
    assert.ok(!once.includes('!['));
    assert.match(once, /<!-- end of measured -->\nlast\n$/);
  });

  it('of the README have the picture and the rows of three cases', () => {
    const readme = text.replace('npm run bench', 'npm run bench, three cases');
    const others = caseIds.map((id) => ({ ...summary, id, title: `case ${id}` }));
    const once = fillReadme(readme, others, run);
    assert.match(once, /!\[[^\]]*\]\(test\/bench/);
    assert.deepEqual(
      [...once.matchAll(/^\| case ([a-z]\S*) /gm)].map(([, id]) => id),
      ['bulk-4', 'keepalive-32', 'newconn'],
    );
    assert.equal(fillReadme(once, others, run), once);
  });

  it('have their place in the documents', () => {
    const two = fillTables(readFileSync(tablesFile, 'utf8'), [summary], run);
    assert.ok(fillTables(two, [summary], { ...run, isSameHost: true }).length > 0);
    assert.ok(fillReadme(readFileSync('README.md', 'utf8'), [summary], run).length > 0);
  });

  it('are an error where the marks are gone', () => {
    assert.throws(() => fillTables('no marks', [summary], run), /no mark/);
    assert.throws(() => fillReadme('no marks', [summary], run), /no mark/);
  });
});
