import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { crdChart, crdChartFiles } from '../../docs/crd-chart.js';

test('the chart of our kinds is as their schemas are: npm run docs makes it', () => {
  const files = crdChartFiles();
  for (const { file, text } of files) assert.equal(readFileSync(file, 'utf8'), text, file);
  const present = readdirSync(`${crdChart}/templates`).map((name) => `${crdChart}/templates/${name}`);
  assert.deepEqual(
    present.sort(),
    files
      .map(({ file }) => file)
      .filter((file) => file.includes('/templates/'))
      .sort(),
  );
});
