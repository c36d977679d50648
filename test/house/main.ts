import path from 'node:path';
import { findDependencyProblems, readDependencies } from './dependencies.js';
import { findViolations } from './find-violations.js';
import { readSourceTree } from './source-tree.js';
import { findUnusedExports } from './unused-exports.js';

/** A part of `npm run lint`: prints everything that the house forbids and ends with 1 when there is something. */
const root = path.resolve(import.meta.dirname, '../../..');
const tree = readSourceTree(root);
const violations = [
  ...findViolations(tree),
  ...findUnusedExports(tree),
  ...findDependencyProblems(readDependencies(root)),
];
for (const violation of violations) console.error(violation);
process.exitCode = violations.length === 0 ? 0 : 1;
