import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { documentFiles, fillBlocks } from './generated-blocks.js';
import { manPages } from './man-pages.js';

/** `npm run docs`: makes the generated parts of README.md and deploy/docs new, and the manual pages. */
for (const file of documentFiles()) {
  const text = readFileSync(file, 'utf8');
  const filled = await fillBlocks(text);
  if (filled !== text) writeFileSync(file, filled);
}

mkdirSync('deploy/man', { recursive: true });
for (const { file, text } of await manPages()) writeFileSync(file, text);
