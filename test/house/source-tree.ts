import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** One `import` or `export … from` of a source file. */
export type SourceImport = {
  /** As it is written: a package, or a path that begins with a dot. */
  readonly specifier: string;
  /** Path of the imported source file, from the project's root; null for a package or a module of Node. */
  readonly file: string | null;
  /** It leaves nothing in the compiled file. */
  readonly isType: boolean;
  /** `import()`: it is loaded when the program gets there. */
  readonly isLate: boolean;
};

export type SourceFile = {
  /** From the project's root, with forward slashes. */
  readonly path: string;
  /** Without comments. */
  readonly code: string;
  readonly imports: readonly SourceImport[];
};

/** The source files of the product and its tests, read from the disk. `root` is the project's folder. */
export function readSourceTree(root: string): SourceFile[] {
  return ['agent', 'controller', 'shared', 'deploy', 'test'].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts') && !file.includes('node_modules'))
      .map((file) => path.posix.join(folder, file.split(path.sep).join('/')))
      .map((file) => parseSource(file, readFileSync(path.join(root, file), 'utf8'))),
  );
}

/** `file`: path from the project's root. */
export function parseSource(file: string, text: string): SourceFile {
  const code = withoutComments(text);
  const found = [...code.matchAll(staticImport)].map(([, isType, names, specifier]) =>
    sourceImport(file, {
      specifier: specifier ?? '',
      isType: isType !== undefined || hasOnlyTypes(names),
      isLate: false,
    }),
  );
  const dynamic = [...code.matchAll(dynamicImport)].map(([, isType, specifier]) =>
    sourceImport(file, { specifier: specifier ?? '', isType: isType !== undefined, isLate: true }),
  );
  return { path: file, code, imports: [...found, ...dynamic] };
}

const staticImport = /^\s*(?:import|export)\s*(type\s+)?(?:([^'";]*?)\s*from\s*)?['"]([^'"]+)['"]/gm;
const dynamicImport = /(typeof\s+)?\bimport\(\s*['"]([^'"]+)['"]/g;

function sourceImport(from: string, found: Omit<SourceImport, 'file'>): SourceImport {
  const { specifier } = found;
  if (!specifier.startsWith('.')) return { ...found, file: null };
  const file = path.posix.normalize(path.posix.join(path.posix.dirname(from), specifier)).replace(/\.js$/, '.ts');
  return { ...found, file };
}

/** `{ type A, type B }`. */
function hasOnlyTypes(names: string | undefined): boolean {
  const list = /^\{([^}]*)\}$/.exec(names?.trim() ?? '')?.[1];
  if (list === undefined) return false;
  return list
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
    .every((name) => name.startsWith('type '));
}

/** Good enough for this code: a `//` within a string stays, because it follows a colon or a quote. */
function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|[\s;{},)])\/\/[^\n]*/g, '$1');
}
