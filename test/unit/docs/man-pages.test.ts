import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { culvertProgram } from '../../docs/commands.js';
import { manPages } from '../../docs/man-pages.js';

test('the manual pages are as the command lines are: npm run docs makes them', async () => {
  for (const { file, text } of await manPages()) assert.equal(readFileSync(file, 'utf8'), text, file);
});

test('every command has its place in the page of culvert, and no line of text is a request of groff', async () => {
  const [page] = await manPages();
  assert.ok(page);
  for (const command of (await culvertProgram()).commands)
    assert.ok(page.text.includes(`\n.SS ${command.name().replaceAll('-', '\\-')} `), command.name());
  const requests = page.text.split('\n').filter((line) => /^[.']/.test(line));
  for (const line of requests) assert.match(line, /^\.(?:TH|SH|SS|TP|B|I) |^\.TP$/);
});

test('each page says which files and variables count, gives examples, and names the other pages', async () => {
  for (const { file, text } of await manPages()) {
    for (const section of ['ENVIRONMENT', 'FILES', 'EXAMPLES', 'SEE ALSO'])
      assert.match(text, new RegExp(`^\\.SH ${section}\n[^]+`, 'm'), file);
    const [, related = ''] = text.split('.SH SEE ALSO\n');
    assert.equal(related.trim().split(', ').length, 2, file);
  }
});
