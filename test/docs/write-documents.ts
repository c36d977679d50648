import { readFileSync, writeFileSync } from 'node:fs';
import { documentFiles, fillBlocks } from './generated-blocks.js';

/** `npm run docs`: makes the generated parts of README.md and deploy/docs new. */
for (const file of documentFiles()) {
  const text = readFileSync(file, 'utf8');
  const filled = await fillBlocks(text);
  if (filled !== text) writeFileSync(file, filled);
}
