import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { readSourceTree } from '../../house/source-tree.js';
import { blockNames, documentFiles, fillBlocks, generatedBlocks } from '../../docs/generated-blocks.js';
import { agentMetrics, controllerMetrics } from '../../docs/metric-tables.js';
import { allDocuments } from '../../docs/all-documents.js';

test('the generated parts of the documents are those of the code', async () => {
  for (const { file, text } of documentFiles().map((file) => ({ file, text: readFileSync(file, 'utf8') }))) {
    assert.ok(text === (await fillBlocks(text)), `${file} is behind the code: run "npm run docs"`);
  }
});

test('every generated part has its place in one document', () => {
  const marks = documentFiles().flatMap((file) => blockNames(readFileSync(file, 'utf8')));
  assert.deepEqual(marks.toSorted(), Object.keys(generatedBlocks).toSorted());
});

test('a document that is behind is made new, and a mark that names nothing is an error', async () => {
  const old = 'before\n<!-- generated: ports -->\nold\n<!-- end -->\nafter\n';
  const filled = await fillBlocks(old);
  assert.match(filled, /^before\n<!-- generated: ports -->\n\| port [^]*15001[^]*<!-- end -->\nafter\n$/);
  assert.equal(await fillBlocks(filled), filled);
  await assert.rejects(fillBlocks('<!-- generated: nothing -->\n<!-- end -->'), /no block "nothing"/);
});

test('every metric that the code of the programs names is in the tables', () => {
  const described = new Set([...agentMetrics(), ...controllerMetrics()].map(({ name }) => name));
  const named = readSourceTree('.')
    .filter(({ path: file }) => /^(?:agent|controller|shared)\//.test(file))
    .flatMap(({ path: file }) =>
      [...readFileSync(file, 'utf8').matchAll(/\bname: '(culvert_\w+)'/g)].map(([, name = '']) => name),
    );
  assert.ok(named.length > 20, `${named.length} metrics`);
  assert.deepEqual(
    [...new Set(named)].filter((name) => !described.has(name)),
    [],
  );
});

test('every file that a document names exists', () => {
  const paths = allDocuments().flatMap(({ text }) =>
    [...text.matchAll(/`((?:agent|controller|shared|test|deploy|\.github)\/[\w./-]+)`/g)].map(
      (match) => match[1] ?? '',
    ),
  );
  assert.ok(paths.length > 100, 'ARCHITECTURE.md names the files of the road of a connection');
  const missing = [...new Set(paths)].filter((name) => !existsSync(name));
  assert.deepEqual(missing, []);
});

test('every promise of the security model names a test', () => {
  const [, promises = ''] = readFileSync('deploy/docs/security.md', 'utf8').split('\n## What is promised\n');
  const rows = (promises.split('\n## ')[0] ?? '').split('\n').filter((line) => /^\| (?!attacker |---)/.test(line));
  assert.ok(rows.length > 50, `${rows.length} promises`);
  assert.deepEqual(
    rows.filter((row) => !/`test\/[\w./-]+(?:\.test|-contract)\.ts`/.test(row)),
    [],
  );
});

test('a test that the security model names without its folder is "there", in the folder of the one named before', () => {
  const text = readFileSync('deploy/docs/security.md', 'utf8');
  let folder = '';
  const missing: string[] = [];
  let short = 0;
  for (const [, name = '', isThere] of text.matchAll(/`([\w./-]+\.test\.ts)`( there)?/g)) {
    if (name.includes('/')) {
      folder = path.dirname(name);
      continue;
    }
    short += 1;
    if (isThere === undefined || !existsSync(path.join(folder, name))) missing.push(`${name} in ${folder}`);
  }
  assert.ok(short > 0);
  assert.deepEqual(missing, []);
});

test('every file that ARCHITECTURE names without its folder is the only one with this name in the product', () => {
  const product = readSourceTree('.').filter(({ path: file }) => !/^(?:test|deploy)\//.test(file));
  const names = product.map(({ path: file }) => path.basename(file));
  const text = readFileSync('ARCHITECTURE.md', 'utf8');
  const short = [...text.matchAll(/`([\w-]+\.ts)`/g)].map(([, name = '']) => name);
  assert.ok(short.length > 5);
  assert.deepEqual(
    short.filter((name) => names.filter((each) => each === name).length !== 1),
    [],
  );
});

test('ARCHITECTURE has every room of the programs', () => {
  const text = readFileSync('ARCHITECTURE.md', 'utf8');
  const folders = new Set(readSourceTree('.').map(({ path: file }) => path.posix.dirname(file)));
  const rooms = [...folders].filter((folder) => /^(?:agent|controller|shared)\/[\w-]+(?:\/[\w-]+)?$/.test(folder));
  assert.ok(rooms.length > 40, `${rooms.length} rooms`);
  // A room is named by itself, by a file in it, or in the row of the room that it is in.
  const inRows = ['controller/cli/', 'controller/analysis/', 'controller/resources/'];
  const missing = rooms.filter(
    (room) => !text.includes(`${room}/`) && !inRows.some((row) => room.startsWith(row) && text.includes(`\`${row}\``)),
  );
  assert.deepEqual(missing, []);
});

test('what leans on the insides of Node is in the document about its versions', () => {
  const text = readFileSync('deploy/docs/node-versions.md', 'utf8');
  const leaning = readSourceTree('.')
    .filter(({ path: file, code }) => !file.startsWith('test/') && /\b_handle\b|\bmanualStart\b/.test(code))
    .map(({ path: file }) => file);
  assert.ok(leaning.length > 4);
  assert.deepEqual(
    leaning.filter((file) => !text.includes(`\`${file}\``)),
    [],
  );
});

test('every link of a document leads to a file and a heading that exist', () => {
  const dead = allDocuments().flatMap(({ file, text }) =>
    [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !/^https?:/.test(target) && !leadsSomewhere(file, target))
      .map((target) => `${file}: ${target}`),
  );
  assert.deepEqual(dead, []);
});

function leadsSomewhere(file: string, target: string): boolean {
  const [name = '', heading] = target.split('#');
  const found = name === '' ? file : path.join(path.dirname(file), name);
  if (!existsSync(found)) return false;
  return heading === undefined || headingsOf(readFileSync(found, 'utf8')).includes(heading);
}

/** As GitHub makes the names of headings. */
function headingsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

test('a document that refers to another place in it has a link to it', () => {
  const found = allDocuments().flatMap(({ file, text }) =>
    text.split('\n').flatMap((line, index) => (/\bsee (?:below|above)\b/i.test(line) ? [`${file}:${index + 1}`] : [])),
  );
  assert.deepEqual(found, []);
});

test('the README has at most 180 lines', () => {
  const lines = readFileSync('README.md', 'utf8').trimEnd().split('\n');
  assert.ok(lines.length <= 180, `${lines.length} lines`);
});

/** Words that make a sentence hard to read. "There is none" is plain. */
const lost = /\b(?:whoever|anew|besides?|for so long|so many)\b|(?<!there )\bis none\b|\btold of\b|\bhears? of\b/i;
/** A document has readers who do not know the code, so it says who it means. */
const vague = /\b(?:nobody|somebody)\b/i;

test('README, ARCHITECTURE and the documents keep to plain English', () => {
  const found = allDocuments().flatMap(({ file, text }) =>
    withoutGenerated(text)
      .split('\n')
      .flatMap((line, index) => {
        const word = (lost.exec(line) ?? vague.exec(line))?.[0];
        return word === undefined ? [] : [`${file}:${index + 1}: ${word}`];
      }),
  );
  assert.deepEqual(found, []);
});

test('comments keep to plain English, in lines that fit', () => {
  const sources = ['agent', 'controller', 'shared', 'deploy', 'test'].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(?:ts|c|h|mjs)$/.test(name) && !name.includes('node_modules'))
      .map((name) => path.join(folder, name)),
  );
  assert.ok(sources.length > 1000, `${sources.length} files`);
  const found = sources.flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/(?:^|\s)(?:\/\*[^]*?\*\/|\/\/.*)/gm)].flatMap(([comment]) => {
      const word = lost.exec(comment.replace(/\n\s*\*/g, ''))?.[0];
      const problem = word ?? (/.{131}/.test(comment) ? 'a line of more than 130 characters' : undefined);
      return problem === undefined ? [] : [`${file}: ${problem}, in: ${comment.trim().slice(0, 80)}`];
    }),
  );
  assert.deepEqual(found, []);
});

/** Generated and measured parts have the words of the code. */
function withoutGenerated(text: string): string {
  return text.replace(/<!-- (?:generated|measured): [^]*?<!-- end[^>]*-->/g, (part) => part.replace(/[^\n]+/g, ''));
}
