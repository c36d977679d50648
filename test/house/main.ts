import path from 'node:path';
import { findViolations } from './find-violations.js';
import { readSourceTree } from './source-tree.js';

/** A part of `npm run lint`: prints every import that the house forbids and ends with 1 when there is one. */
const root = path.resolve(import.meta.dirname, '../../..');
const violations = findViolations(readSourceTree(root));
for (const violation of violations) console.error(violation);
process.exitCode = violations.length === 0 ? 0 : 1;
