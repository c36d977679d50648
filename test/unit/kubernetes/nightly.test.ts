import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { usualMinor } from '../../kubernetes/programs/components.js';

type Workflow = {
  readonly jobs: {
    readonly suite: {
      readonly strategy: {
        readonly matrix: { readonly include: readonly { readonly kubernetes: string; readonly options: string }[] };
      };
    };
  };
};

test('each night the suite runs on every minor version that can be built, and a soak on the usual one', () => {
  const workflow = parse(readFileSync('.github/workflows/kubernetes-nightly.yml', 'utf8')) as Workflow;
  const runs = workflow.jobs.suite.strategy.matrix.include;
  const whole = runs.filter(({ options }) => options === '').map(({ kubernetes }) => kubernetes);
  assert.deepEqual(whole.sort(), readdirSync('test/kubernetes/modules/kubernetes').sort());
  const soaked = runs.filter(({ options }) => options.includes('--soak')).map(({ kubernetes }) => kubernetes);
  assert.deepEqual(soaked, [usualMinor]);
});

test('every option of the nightly runs is one of the program', () => {
  const workflow = readFileSync('.github/workflows/kubernetes-nightly.yml', 'utf8');
  const program = readFileSync('test/kubernetes/main.ts', 'utf8');
  const used = new Set(workflow.match(/(?<=[ '])--(?:kubernetes|logs|soak|filter|proxy|ipv4-only)\b/g));
  for (const option of used) assert.match(program, new RegExp(`'${option}[ ']`));
  assert.ok(used.size >= 5, [...used].join(', '));
});
