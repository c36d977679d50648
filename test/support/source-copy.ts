import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';

const root = path.resolve(import.meta.dirname, '../../..');

const parts = ['agent', 'controller', 'shared'];

/**
 * A copy of the programs' sources, for tests that change them; node_modules is the project's. The caller removes it. It has what
 * the build has found out, so that the compiler checks what a change reaches and not all of the sources again.
 */
export function makeSourceCopy(): string {
  const copy = mkdtempSync(path.join(tmpdir(), 'sources-'));
  const built = parts.flatMap((part) => [`dist/${part}`, `dist/${part}.tsbuildinfo`]);
  const filter = (from: string): boolean => !/\.(?:js|map|node)$/.test(from);
  for (const each of [...parts, ...built, 'tsconfig.json', 'package.json', '.oxlintrc.json']) {
    cpSync(path.join(root, each), path.join(copy, each), { recursive: true, preserveTimestamps: true, filter });
  }
  symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
  return copy;
}

/** Calls `use` with a copy of its own. */
export function withSourceCopy<T>(use: (copy: string) => T): T {
  const copy = makeSourceCopy();
  try {
    return use(copy);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** Runs a program of node_modules, `typescript/bin/tsc`, in a folder. Never throws for what the program finds. */
export function runTool(
  cwd: string,
  program: string,
  args: readonly string[],
): { readonly code: number; readonly text: string } {
  try {
    const file = path.join(root, 'node_modules', program);
    return { code: 0, text: execFileSync(process.execPath, [file, ...args], { cwd, encoding: 'utf8' }) };
  } catch (error) {
    const { status, stdout } = error as { status: number; stdout: string };
    return { code: status, text: stdout };
  }
}
