import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../../../..');

/**
 * What the project's compiler says of a file with the project's options: `<line>: <code>` for each error in it, in order.
 * `ROOT` in the text stands for the root of the sources. Throws when there is an error elsewhere.
 */
export function compileErrors(text: string): string[] {
  const folder = mkdtempSync(path.join(tmpdir(), 'compile-'));
  try {
    writeFileSync(path.join(folder, 'probe.mts'), text.replaceAll('ROOT', root));
    const compilerOptions = {
      noEmit: true,
      composite: false,
      typeRoots: [path.join(root, 'node_modules/@types')],
    };
    const config = { extends: path.join(root, 'tsconfig.json'), compilerOptions, files: ['probe.mts'], references: [] };
    writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify(config));
    const found = compile(folder).matchAll(/^(.*?)\((\d+),\d+\): error (TS\d+)/gm);
    return [...found].map(([whole, file, line, code]) => {
      if (path.basename(file ?? '') !== 'probe.mts') throw new Error(`an error elsewhere: ${whole}`);
      return `${line}: ${code}`;
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function compile(folder: string): string {
  const compiler = path.join(root, 'node_modules/typescript/bin/tsc');
  try {
    return execFileSync(process.execPath, [compiler, '-p', folder, '--pretty', 'false'], { encoding: 'utf8' });
  } catch (error) {
    const { stdout } = error as { readonly stdout: string };
    // Without a place it is an error of the options, which would hide all others.
    if (!/^\S+\(\d+,\d+\): error/m.test(stdout)) throw new Error(stdout, { cause: error });
    return stdout;
  }
}
