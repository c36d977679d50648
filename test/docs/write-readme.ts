import { readFileSync, writeFileSync } from 'node:fs';
import { fillReadme } from './readme-blocks.js';

/** `npm run docs`: makes the generated tables of README.md anew. */
const path = 'README.md';
writeFileSync(path, fillReadme(readFileSync(path, 'utf8')));
