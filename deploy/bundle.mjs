import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/**
 * Part of `npm run build`: makes of the compiler's output the three programs in dist/programs, each of a few files with the
 * libraries that it uses. Loading 800 modules one by one takes as long as all else that a program does at its start. Where
 * esbuild is missing (it has binaries for most machines), the programs load the modules, and the build says so.
 */
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const built = path.join(root, 'dist');
const target = path.join(built, 'programs');

/**
 * Each program, and the files that it starts as threads. `isInParts`: it loads only the parts that a command needs. A daemon
 * needs nearly all of its code at once, and each part of it would take a millisecond to find and to link, so each of its entries
 * is one file. Parts of one program are never shared with another.
 */
const programs = [
  {
    name: 'culvert-agent',
    entries: {
      'culvert-agent': 'agent/main.js',
      'data-plane-worker': 'agent/dataplane/worker/worker.js',
      'copying-thread': 'agent/control/succession/copying-thread.js',
    },
  },
  {
    name: 'culvert-controller',
    entries: {
      'culvert-controller': 'controller/main.js',
      'document-reading-thread': 'controller/api/reading/reading-thread.js',
    },
  },
  { name: 'culvert', isInParts: true, entries: { culvert: 'controller/cli/main.js' } },
];
const bundleOf = new Map(programs.flatMap(({ entries }) => Object.entries(entries).map(([to, from]) => [from, to])));

/** Where the programs are, for the code of every part of them; and `require` for libraries that are not ES modules. */
const banner = `import { createRequire as createRequireOfPart } from 'node:module';
const require = createRequireOfPart(import.meta.url);
const urlOfBuild = import.meta.url.slice(0, import.meta.url.lastIndexOf('/programs/') + 1);`;

/** A module finds the files next to it where the compiler has put it; another entry it finds as its bundle. */
const urlsOfModules = {
  name: 'urls of modules',
  setup({ onLoad }) {
    onLoad({ filter: /\.js$/ }, ({ path: file }) => {
      const module = path.relative(built, file);
      if (module.startsWith('..')) return undefined;
      const contents = readFileSync(file, 'utf8')
        .replace(/new URL\('([^']+)', import\.meta\.url\)/g, (text, relative) => {
          const bundle = bundleOf.get(path.join(path.dirname(module), relative));
          return bundle === undefined ? text : `new URL('programs/${bundle}.js', urlOfBuild)`;
        })
        .replaceAll('import.meta.url', `new URL('${module}', urlOfBuild).href`)
        .replaceAll("require('yaml')", `require('${path.relative(path.dirname(module), 'programs/yaml.cjs')}')`)
        // The same, but of the second form only the parts that are used are taken: not forty languages.
        .replace("import { z } from 'zod';", "import * as z from 'zod';");
      return { contents, loader: 'js' };
    });
  },
};

/**
 * Node's own modules are required. An import reads each of their exports, and some are loaded when they are read: for the
 * WebSocket of node:http, Node 26 loads the whole of fetch, in 25 ms. Here only those that are used are read.
 */
const nodeModules = {
  name: 'modules of Node',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^[a-z][a-z0-9_/:]*$/ }, ({ path: name, kind }) => {
      if (kind !== 'import-statement' || !isBuiltin(name)) return undefined;
      return { path: name, namespace: 'node', sideEffects: false };
    });
    onLoad({ filter: /^/, namespace: 'node' }, ({ path: name }) => {
      const exported = Object.keys(createRequire(import.meta.url)(name)).filter((key) => key !== 'default');
      const lines = exported.map((key) => `export const ${key} = /* @__PURE__ */ (() => module.${key})();`);
      return { contents: [`const module = require('${name}');`, 'export default module;', ...lines].join('\n') };
    });
  },
};

const startedAt = new Date();
const written = new Set();
const esbuild = await import('esbuild').catch(() => null);
if (esbuild === null) {
  process.stderr.write('esbuild is not installed (npm ci brings it): the programs start slowly, module by module\n');
  for (const [from, to] of bundleOf)
    write(path.join(target, `${to}.js`), `#!/usr/bin/env node\nimport '../${from}';\n`);
} else {
  await bundle(esbuild);
}
removeOthers();
// The tests of the lab compare it with the modules (test/runner/fresh-programs.ts).
utimesSync(target, startedAt, startedAt);

async function bundle({ build }) {
  for (const { name, entries, isInParts = false } of programs) {
    for (const [out, from] of Object.entries(entries)) {
      const { outputFiles } = await build({
        entryPoints: [{ in: path.join(built, from), out }],
        bundle: true,
        splitting: isInParts,
        format: 'esm',
        platform: 'node',
        target: 'node20.12',
        chunkNames: `parts/${name}-[hash]`,
        outdir: target,
        banner: { js: banner },
        plugins: [nodeModules, urlsOfModules],
        logLevel: 'warning',
        write: false,
      });
      for (const { path: file, text } of outputFiles) write(file, text);
    }
  }
  // The command requires it when it has YAML to read. In a bundle it would be read with every command.
  const { outputFiles } = await build({
    stdin: { contents: "module.exports = require('yaml');", resolveDir: root },
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node20.12',
    write: false,
  });
  for (const { text } of outputFiles) write(path.join(target, 'yaml.cjs'), text);
}

/**
 * What has not changed stays as it is: a program that runs may load a part of it later. Node holds a file of ASCII as it is, and
 * any other with two bytes a character, which it scans more slowly: esbuild leaves only comments with other characters, and
 * escapes mean the same in code.
 */
function write(file, bundled) {
  const text = bundled.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  written.add(file);
  if (existsSync(file) && readFileSync(file, 'utf8') === text) return;
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
}

function removeOthers() {
  for (const each of readdirSync(target, { recursive: true, withFileTypes: true })) {
    const file = path.join(each.parentPath ?? each.path, each.name);
    if (each.isFile() && !written.has(file)) rmSync(file);
  }
}
