import { isBuiltin } from 'node:module';
import * as rules from './house-rules.js';
import type { SourceFile, SourceImport } from './source-tree.js';

/**
 * Every place where one of `files` breaks a rule of `house-rules.ts`, as `file: what is wrong`, in the order of the files.
 * `tree` is everything that they may import.
 */
export function findViolations(tree: readonly SourceFile[], files: readonly SourceFile[] = tree): string[] {
  const byPath = new Map(tree.map((file) => [file.path, file]));
  return files.flatMap((file) =>
    [
      ...programViolations(file),
      ...packageViolations(file),
      ...unreadableViolations(file),
      ...threadViolations(file),
      ...purityViolations(file, byPath),
      ...lateViolations(file, byPath),
      ...floorViolations(file),
      ...exitViolations(file),
      ...callViolations(file),
    ].map((problem) => `${file.path}: ${problem}`),
  );
}

function isIn(file: string, rooms: readonly string[]): boolean {
  return rooms.some((room) => (room.endsWith('/') ? file.startsWith(room) : file === room));
}

function programViolations({ path, imports }: SourceFile): string[] {
  const program = Object.keys(rules.programs).find((folder) => path.startsWith(folder)) ?? '';
  const allowed = [program, ...(rules.programs[program] ?? [])];
  return importedFiles(imports)
    .filter((file) => !isIn(file, allowed))
    .map((file) => `imports ${file}: ${program} imports only ${allowed.join(', ')}`);
}

function packageViolations({ path, imports }: SourceFile): string[] {
  if (isIn(path, ['test/', 'deploy/'])) return [];
  return imports.flatMap(({ specifier }) =>
    rules.packages
      .filter(({ names, rooms }) => names.includes(packageOf(specifier)) && !isIn(path, rooms))
      .map(({ rooms, why }) => `imports ${specifier}, which belongs to ${rooms.join(', ')}: ${why}`),
  );
}

/** `yaml` of `yaml/util`, `@peculiar/x509` of `@peculiar/x509/build`. */
function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

function unreadableViolations({ path, code }: SourceFile): string[] {
  if (isIn(path, rules.mayImportUnreadably)) return [];
  return rules.unreadableImports
    .filter(({ pattern }) => pattern.test(code))
    .map(({ what }) => `uses ${what}, which hides what it imports`);
}

function threadOf(file: string): 'control' | 'worker' | null {
  if (isIn(file, rules.agentThreads.both)) return null;
  if (isIn(file, rules.agentThreads.control)) return 'control';
  return isIn(file, rules.agentThreads.worker) ? 'worker' : null;
}

function threadViolations({ path, imports }: SourceFile): string[] {
  const own = threadOf(path);
  if (!path.startsWith('agent/') || path === 'agent/main.ts') return [];
  return importedFiles(imports)
    .filter((file) => {
      const other = threadOf(file);
      return other !== null && other !== own;
    })
    .map((file) =>
      own === null
        ? `imports ${file}, but both threads run this file`
        : `imports ${file}, which the other thread runs: ${own} code meets it in ${rules.agentThreads.both.join(', ')}`,
    );
}

function purityViolations(file: SourceFile, tree: ReadonlyMap<string, SourceFile>): string[] {
  if (!isIn(file.path, rules.pureRooms)) return [];
  return impurities(file, tree, new Set()).map((problem) => `is in a pure room, but ${problem}`);
}

/** Follows what is left of the imports when the types are gone. */
function impurities(file: SourceFile, tree: ReadonlyMap<string, SourceFile>, seen: Set<string>): string[] {
  seen.add(file.path);
  const own = [
    ...rules.impureCode.filter(({ pattern }) => pattern.test(file.code)).map(({ what }) => `uses ${what}`),
    ...file.imports.filter(isImpure).map(({ specifier }) => `imports ${specifier}`),
  ];
  const below = file.imports
    .filter(({ isType, file: target }) => !isType && target !== null && !seen.has(target))
    .flatMap(({ file: target }) => {
      const found = tree.get(target ?? '');
      // A pure room answers for itself.
      if (found === undefined || isIn(found.path, [...rules.pureRooms, ...rules.pureInEffect])) return [];
      return impurities(found, tree, seen).map((problem) => `${found.path} ${problem}`);
    });
  return [...own, ...below];
}

function isImpure({ specifier, file, isType }: SourceImport): boolean {
  if (file !== null || (isType && !isBuiltin(specifier))) return false;
  return !rules.pureImports.includes(isBuiltin(specifier) ? specifier : packageOf(specifier));
}

function lateViolations(file: SourceFile, tree: ReadonlyMap<string, SourceFile>): string[] {
  return rules.lateLibraries
    .filter((rule) => rule.file === file.path)
    .flatMap(({ names, why }) =>
      loadedFirst(file, tree, new Set())
        .filter(({ name }) => names.includes(name))
        .map(({ name, by }) => `loads ${name} through ${by} before it runs: ${why}`),
    );
}

/** The packages that are loaded before a file runs, each with the files that import it. */
function loadedFirst(
  { path, imports }: SourceFile,
  tree: ReadonlyMap<string, SourceFile>,
  seen: Set<string>,
): { readonly name: string; readonly by: string }[] {
  seen.add(path);
  return imports
    .filter(({ isType, isLate }) => !isType && !isLate)
    .flatMap(({ specifier, file }) => {
      if (file === null) return [{ name: packageOf(specifier), by: path }];
      const target = tree.get(file);
      return target === undefined || seen.has(file) ? [] : loadedFirst(target, tree, seen);
    });
}

function floorViolations({ path, imports }: SourceFile): string[] {
  return Object.entries(rules.buildings).flatMap(([building, floors]) => {
    const own = floorOf(path, floors);
    if (own < 0) return [];
    return importedFiles(imports)
      .filter((file) => {
        const floor = floorOf(file, floors);
        return floor >= 0 && floor < own;
      })
      .map((file) => `imports ${file}, which is on a higher floor of ${building}`);
  });
}

/** Of several rooms that have a file, the one with the longest path; -1: none. */
function floorOf(file: string, floors: readonly string[]): number {
  let best = { length: 0, floor: -1 };
  for (const [floor, rooms] of floors.entries()) {
    for (const room of rooms.split(' ')) {
      if (isIn(file, [room]) && room.length > best.length) best = { length: room.length, floor };
    }
  }
  return best.floor;
}

function exitViolations({ path, code }: SourceFile): string[] {
  return /\bprocess\.exit\(/.test(code) && !rules.mayExit.test(path) ? ['calls process.exit outside a main.ts'] : [];
}

function callViolations({ path, code }: SourceFile): string[] {
  return rules.forbiddenCalls
    .filter(({ room, except, pattern }) => path.startsWith(room) && path !== except && pattern.test(code))
    .map(({ what, why }) => `calls ${what}: ${why}`);
}

function importedFiles(imports: readonly SourceImport[]): string[] {
  return imports.flatMap(({ file }) => (file === null ? [] : [file]));
}
