import type { SourceFile } from './source-tree.js';

const exported = /^export (?:async )?(?:function\*?|const|class|abstract class) (\w+)/gm;

/**
 * Functions, constants and classes that a file exports and no other file names, as `file: what is wrong`. Types are left
 * out: they are exported for the signatures that they are a part of.
 */
export function findUnusedExports(tree: readonly SourceFile[]): string[] {
  const users = new Map<string, number>();
  for (const { code } of tree) {
    for (const word of new Set(code.match(/\w+/g))) users.set(word, (users.get(word) ?? 0) + 1);
  }
  return tree.flatMap(({ path, code }) =>
    [...code.matchAll(exported)]
      .map(([, name = '']) => name)
      .filter((name) => users.get(name) === 1)
      .map((name) => `${path}: exports ${name}, which no other file uses`),
  );
}
