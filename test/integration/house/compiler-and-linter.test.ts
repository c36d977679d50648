import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeSourceCopy, runTool } from '../../support/source-copy.js';

const root = path.resolve(import.meta.dirname, '../../../..');

describe('the compiler and the linter', () => {
  let copy = '';
  before(() => {
    copy = makeSourceCopy();
  });
  after(() => rmSync(copy, { recursive: true, force: true }));

  it('begin with what the build has found out, so that a change costs what it reaches', () => {
    const parts = ['agent', 'controller', 'shared'];
    const { code, text } = runTool(copy, 'typescript/bin/tsc', ['-b', ...parts, '--dry', '--pretty', 'false']);
    assert.equal(code, 0, text);
    for (const part of parts) assert.match(text, new RegExp(`'${copy}/${part}/tsconfig\\.json' is up to date`), text);
  });

  /** What `use` says of the copy while it has these files more. */
  function withFiles<T>(files: Readonly<Record<string, string>>, use: () => T): T {
    try {
      for (const [file, text] of Object.entries(files)) writeFileSync(path.join(copy, file), text);
      return use();
    } finally {
      for (const file of Object.keys(files)) rmSync(path.join(copy, file), { force: true });
    }
  }

  it('refuse libraries and documents of the controller in the agent', () => {
    const lines = [
      "import { parse } from 'yaml';",
      "import { X509Certificate } from '@peculiar/x509';",
      "import forge from 'node-forge';",
      "import { workloadSchema } from '../controller/resources/kinds/workload.js';",
      'export const all = [parse, X509Certificate, forge, workloadSchema];',
    ];
    const { code, text } = withFiles({ 'agent/x.ts': lines.join('\n') }, () =>
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
      const found = withFiles({ [file]: text }, () =>
        runTool(copy, 'oxlint/bin/oxlint', ['--deny-warnings', path.dirname(file)]),
      );
      assert.notEqual(found.code, 0);
      assert.match(found.text, says);
    });
  }

  it('refuse a cycle among types', () => {
    const lines = ["import type { Identity } from './identity-b.js';", 'export type Name = { readonly of: Identity };'];
    const back = "import type { Name } from './identity-a.js';\nexport type Identity = { readonly name: Name };\n";
    const files = { 'shared/identity-a.ts': lines.join('\n'), 'shared/identity-b.ts': back };
    const { code, text } = withFiles(files, () => runTool(copy, 'oxlint/bin/oxlint', ['--deny-warnings', 'shared']));
    assert.notEqual(code, 0);
    assert.match(text, /no-cycle/);
    assert.ok(readFileSync(path.join(root, '.oxlintrc.json'), 'utf8').includes('"ignoreTypes": false'));
  });
});
