import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { runTool, withSourceCopy } from '../../support/source-copy.js';

const root = path.resolve(import.meta.dirname, '../../../..');

describe('the compiler and the linter', () => {
  /** A copy of the sources with one file more. */
  function withFile<T>(file: string, text: string, use: (copy: string) => T): T {
    return withSourceCopy((copy) => {
      writeFileSync(path.join(copy, file), text);
      return use(copy);
    });
  }

  it('refuse libraries and documents of the controller in the agent', () => {
    const lines = [
      "import { parse } from 'yaml';",
      "import { X509Certificate } from '@peculiar/x509';",
      "import forge from 'node-forge';",
      "import { workloadSchema } from '../controller/resources/kinds/workload.js';",
      'export const all = [parse, X509Certificate, forge, workloadSchema];',
    ];
    const { code, text } = withFile('agent/x.ts', lines.join('\n'), (copy) =>
      runTool(copy, 'typescript/bin/tsc', ['-b', 'agent', '--pretty', 'false']),
    );
    assert.notEqual(code, 0);
    for (const line of [1, 2, 3, 4]) assert.match(text, new RegExp(`agent/x\\.ts\\(${line},`), text);
  });

  const longFile = Array.from({ length: 452 }, (_, line) => `export const line${line} = ${line};\n`).join('');
  const linted: readonly {
    readonly what: string;
    readonly file: string;
    readonly text: string;
    readonly says: RegExp;
  }[] = [
    { what: 'a file of more than 450 lines', file: 'shared/long-file.ts', text: longFile, says: /max-lines/ },
    {
      what: 'a name of another case',
      file: 'shared/LongFile.ts',
      text: 'export const x = 1;\n',
      says: /filename-case/,
    },
    {
      what: 'an end of the process outside a main.ts',
      file: 'shared/ending.ts',
      text: "import process from 'node:process';\nprocess.exit(1);\n",
      says: /no-process-exit/,
    },
    { what: 'console', file: 'shared/printing.ts', text: "console.log('x');\n", says: /no-console/ },
  ];
  for (const { what, file, text, says } of linted) {
    it(`refuse ${what}`, () => {
      const found = withFile(file, text, (copy) =>
        runTool(copy, 'oxlint/bin/oxlint', ['--deny-warnings', path.dirname(file)]),
      );
      assert.notEqual(found.code, 0);
      assert.match(found.text, says);
    });
  }

  it('refuse a cycle among types', () => {
    const lines = ["import type { Identity } from './identity-b.js';", 'export type Name = { readonly of: Identity };'];
    const { code, text } = withFile('shared/identity-a.ts', lines.join('\n'), (copy) => {
      const back = "import type { Name } from './identity-a.js';\nexport type Identity = { readonly name: Name };\n";
      writeFileSync(path.join(copy, 'shared/identity-b.ts'), back);
      return runTool(copy, 'oxlint/bin/oxlint', ['--deny-warnings', 'shared']);
    });
    assert.notEqual(code, 0);
    assert.match(text, /no-cycle/);
    assert.ok(readFileSync(path.join(root, '.oxlintrc.json'), 'utf8').includes('"ignoreTypes": false'));
  });
});
