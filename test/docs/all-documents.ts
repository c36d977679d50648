import { readdirSync, readFileSync } from 'node:fs';
import { documentFiles } from './generated-blocks.js';

export type WrittenDocument = { readonly file: string; readonly text: string };

/** README, ARCHITECTURE, everything in deploy/docs and the records of decisions. */
export function allDocuments(): WrittenDocument[] {
  const decisions = readdirSync('deploy/docs/decisions').map((name) => `deploy/docs/decisions/${name}`);
  return [...documentFiles(), 'ARCHITECTURE.md', ...decisions].map((file) => ({
    file,
    text: readFileSync(file, 'utf8'),
  }));
}
