import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { renderChecks } from '../../../../controller/cli/commands/check-command.js';
import { renderTable } from '../../../../controller/cli/view/table.js';
import { terminalOf, useTerminal } from '../../../../controller/cli/view/terminal.js';

afterEach(() => useTerminal({ columns: null, hasColours: false }));

const header = ['NAME', 'STATE', 'ADDRESSES'];
const rows = [
  ['web', 'ready', '198.18.0.1,198.18.0.2,198.18.0.3,198.18.0.4,198.18.0.5,198.18.0.6,198.18.0.7'],
  ['a-long-name-of-a-workload', 'stale', '198.18.0.9'],
];

test('a table fits the terminal: the widest cells are shortened, unless it is wide', () => {
  useTerminal({ columns: 80, hasColours: false });
  const lines = renderTable(header, rows).split('\n');
  assert.ok(lines.every((line) => line.length <= 80));
  assert.match(lines[1] ?? '', /^web +ready  198\.18\.0\.1,.*…$/);
  assert.match(lines[2] ?? '', /^a-long-name-of-a-workload  stale  198\.18\.0\.9$/);
  assert.ok(renderTable(header, rows, { isWide: true }).includes('198.18.0.7'));
  useTerminal({ columns: 10, hasColours: false });
  assert.match(renderTable(header, rows), /…/);
});

test('what goes to a file or a pipe is neither shortened nor coloured', () => {
  const text = renderTable(header, rows);
  assert.ok(text.includes('198.18.0.7'));
  assert.ok(!text.includes('\u001B'));
});

test('states have colours on a terminal, and columns stay aligned', () => {
  useTerminal({ columns: 200, hasColours: true });
  const text = renderTable(header, rows);
  assert.ok(text.includes('\u001B[32mready\u001B[0m  198'));
  assert.ok(text.includes('\u001B[31mstale\u001B[0m  198'));
  const finding = { check: 'disk', state: 'fail', message: 'x', hint: '' } as const;
  assert.equal(renderChecks([finding]), '\u001B[31m✖\u001B[0m disk: x');
});

test('colours follow the terminal, NO_COLOR and TERM', () => {
  const terminal = { isTTY: true, columns: 120 };
  assert.deepEqual(terminalOf(terminal, {}), { columns: 120, hasColours: true });
  assert.deepEqual(terminalOf(terminal, { NO_COLOR: '1' }), { columns: 120, hasColours: false });
  assert.deepEqual(terminalOf(terminal, { NO_COLOR: '' }), { columns: 120, hasColours: true });
  assert.deepEqual(terminalOf(terminal, { TERM: 'dumb' }), { columns: 120, hasColours: false });
  assert.deepEqual(terminalOf({ isTTY: true }, {}), { columns: 80, hasColours: true });
  assert.deepEqual(terminalOf({}, {}), { columns: null, hasColours: false });
});
