import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { patientMs } from '../../lab/patience.js';
import { runTarget } from '../../fuzz/run-target.js';

let directory: string;
before(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'culvert-fuzz-'));
});
after(() => rmSync(directory, { recursive: true }));

/** A target whose `check` is this code. */
function run(check: string, durationMs = patientMs(60_000)) {
  const file = path.join(directory, 'planted.mjs');
  const target = `{ name: 'planted', seeds: () => [Buffer.from('length 5')], words: ['-'], check: (input) => { ${check} } }`;
  writeFileSync(file, `export const targets = [${target}];`);
  const module = `${pathToFileURL(file).href}?${Math.random()}`;
  const limits = { inputLimitMs: patientMs(1500), heapLimitMb: 64 };
  return runTarget({ module, target: 'planted', durationMs, seed: 1, ...limits });
}

const planted: readonly [what: string, check: string, problem: RegExp][] = [
  [
    'an error that is no answer',
    `if (input[7] === 45) throw new TypeError('no length'); return '';`,
    /TypeError: no length/,
  ],
  ['an input without an end', `while (input[7] === 45); return '';`, /took longer than/],
  ['a heap that grows', `const all = []; while (input[7] === 45) all.push([...input]); return '';`, /memory/],
];
for (const [what, check, problem] of planted) {
  test(`finds ${what}, with the input`, async () => {
    const { finding } = await run(check);
    assert.match(finding?.problem ?? 'nothing', problem);
    assert.equal(finding?.input[7], 45);
  });
}

test('keeps inputs with a new outcome, so that it finds what needs several steps', async () => {
  const prefix = `const word = 'abc'; let right = 0; while (right < 3 && input[right] === word.charCodeAt(right)) right++;`;
  const { finding } = await run(`${prefix} if (right === 3) throw new Error('found abc'); return String(right);`);
  assert.match(finding?.problem ?? 'nothing', /found abc/);
});

test('ends when its time is over, and says how much it tried', async () => {
  const { finding, inputs, outcomes } = await run(`return String(input.length > 8);`, 500);
  assert.equal(finding, null);
  assert.ok(inputs > 1 && outcomes === 2, `${inputs} inputs, ${outcomes} outcomes`);
});
