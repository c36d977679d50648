import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { chartFiles } from './chart/chart-files.js';
import { crdChart, crdChartFiles } from './crd-chart.js';
import { documentFiles, fillBlocks } from './generated-blocks.js';
import { manPages } from './man-pages.js';

/** `npm run docs`: makes the generated parts of README.md and deploy/docs new, the manual pages, and the charts of Helm. */
for (const file of documentFiles()) {
  const text = readFileSync(file, 'utf8');
  const filled = await fillBlocks(text);
  if (filled !== text) writeFileSync(file, filled);
}

mkdirSync('deploy/man', { recursive: true });
for (const { file, text } of await manPages()) writeFileSync(file, text);

for (const [file, text] of chartFiles()) {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
}

rmSync(`${crdChart}/templates`, { recursive: true, force: true });
mkdirSync(`${crdChart}/templates`, { recursive: true });
for (const { file, text } of crdChartFiles()) writeFileSync(file, text);
