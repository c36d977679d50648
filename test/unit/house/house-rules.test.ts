import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'node:test';
import { reasons } from '../../../shared/reasons.js';
import { findViolations } from '../../house/find-violations.js';
import * as rules from '../../house/house-rules.js';
import { parseSource, readSourceTree } from '../../house/source-tree.js';
import { findUnusedExports } from '../../house/unused-exports.js';

const root = path.resolve(import.meta.dirname, '../../../..');
const tree = readSourceTree(root);

/** Every room that stands on a floor. */
const floorsOfBuildings = Object.values(rules.buildings).flatMap((floors) =>
  floors.flatMap((floor) => floor.split(' ')),
);

/** What is found when one file more stands in the tree. */
function violationsWith(file: string, text: string): string[] {
  const added = parseSource(file, text);
  return findViolations([...tree, added], [added]);
}

describe('the house', () => {
  it('is as its rules say', () => {
    assert.ok(tree.length > 700, 'the whole tree was read');
    assert.deepEqual(findViolations(tree), []);
    assert.deepEqual(findUnusedExports(tree), []);
  });

  it('has every room that the rules name', () => {
    const named = [
      ...Object.keys(rules.programs),
      ...rules.packages.flatMap(({ rooms }) => rooms),
      ...rules.lateLibraries.map(({ file }) => file),
      ...Object.values(rules.agentThreads).flat(),
      ...rules.pureRooms,
      ...rules.pureInEffect,
      ...rules.mayImportUnreadably,
      ...rules.forbiddenCalls.map(({ room }) => room),
      ...floorsOfBuildings,
    ];
    const isThere = (room: string): boolean =>
      tree.some((file) => (room.endsWith('/') ? file.path.startsWith(room) : file.path === room));
    assert.deepEqual(
      named.filter((room) => !isThere(room)),
      [],
    );
  });

  it('has no reason in its table that the agent never gives', () => {
    const rooms = ['agent/', 'shared/policy/'];
    const code = tree.filter((file) => rooms.some((room) => file.path.startsWith(room))).map((file) => file.code);
    // A union of types gives none.
    const gives = (reason: string): boolean =>
      code.some((text) => new RegExp(`(?<!\\| )'${reason}'(?! \\|)`).test(text));
    assert.deepEqual(
      Object.keys(reasons).filter((reason) => !gives(reason)),
      [],
    );
  });

  it('has a floor for every file of both programs, and a thread for every file of the agent', () => {
    const isIn = (file: string, rooms: readonly string[]): boolean =>
      rooms.some((room) => (room.endsWith('/') ? file.startsWith(room) : file === room));
    const threads = [...Object.values(rules.agentThreads).flat(), 'agent/main.ts'];
    const homeless = tree
      .map(({ path: file }) => file)
      .filter((file) => /^(?:agent|controller)\//.test(file))
      .filter((file) => !isIn(file, floorsOfBuildings) || (file.startsWith('agent/') && !isIn(file, threads)));
    assert.deepEqual(homeless, []);
  });

  const broken: readonly {
    readonly rule: string;
    readonly file: string;
    readonly text: string;
    readonly says: RegExp;
  }[] = [
    {
      rule: 'shared imports neither program',
      file: 'shared/policy/x.ts',
      text: "import { x } from '../../controller/compile/compile-rules.js';",
      says: /imports controller\/compile\/compile-rules\.ts: shared\/ imports only shared\//,
    },
    {
      rule: 'the agent does not import the controller',
      file: 'agent/control/x.ts',
      text: "import type { X } from '../../controller/resources/kinds/workload.js';",
      says: /agent\/ imports only agent\/, shared\//,
    },
    {
      rule: 'the product does not import its tests',
      file: 'controller/ca/x.ts',
      text: "import { x } from '../../test/lab/lab.js';",
      says: /controller\/ imports only/,
    },
    ...(
      [
        ['nats', 'controller/nats/x.ts', 'shared/bus/'],
        ['yaml', 'agent/control/x.ts', 'controller/'],
        ['@peculiar/x509', 'controller/join/x.ts', 'controller/ca/x509/'],
        ['node-forge', 'agent/control/x.ts', 'controller/ca/x509/'],
        ['zod', 'agent/dataplane/flow/x.ts', 'controller/'],
        ['prom-client', 'agent/dataplane/flow/x.ts', 'agent/telemetry/'],
        ['pino', 'agent/control/x.ts', 'shared/log.ts'],
        ['commander', 'agent/control/x.ts', 'controller/cli/'],
        ['reflect-metadata', 'controller/ca/x.ts', 'controller/ca/x509/'],
      ] as const
    ).map(([name, file, room]) => ({
      rule: `${name} stays where it belongs`,
      file,
      text: `import x from '${name}';`,
      says: new RegExp(`imports ${name}, which belongs to .*${room}`),
    })),
    {
      rule: 'a worker does not import control-thread code',
      file: 'agent/dataplane/flow/x.ts',
      text: "import type { X } from '../../telemetry/access-log.js';",
      says: /which the other thread runs: worker code meets it in/,
    },
    {
      rule: 'the pool belongs to the control thread',
      file: 'agent/dataplane/worker/x.ts',
      text: "import type { X } from '../pool/worker-pool.js';",
      says: /which the other thread runs/,
    },
    {
      rule: 'the control thread does not import worker code',
      file: 'agent/admin/x.ts',
      text: "import { x } from '../dataplane/tunnel/tunnel-pool.js';",
      says: /which the other thread runs: control code meets it in/,
    },
    {
      rule: 'what both threads run imports neither',
      file: 'agent/thread/x.ts',
      text: "import { x } from '../dataplane/tunnel/tunnel-pool.js';",
      says: /both threads run this file/,
    },
    ...(
      [
        ['zod/v4', 'agent/dataplane/flow/x.ts', 'zod'],
        ['yaml/util', 'agent/control/x.ts', 'yaml'],
        ['@peculiar/x509/build/x509.js', 'controller/join/x.ts', '@peculiar/x509'],
      ] as const
    ).map(([name, file, owner]) => ({
      rule: `a part of ${owner} stays where ${owner} belongs`,
      file,
      text: `import x from '${name}';`,
      says: new RegExp(`imports ${name}, which belongs to `),
    })),
    ...[
      "import fs = require('node:fs');",
      "const x = process.getBuiltinModule('node:fs');",
      "import { createRequire } from 'node:module';\nconst x = createRequire(import.meta.url)('nats');",
      'const x = await import(`../${name}.js`);',
      'const x = await import(`node:fs`);',
      'const x = await import(name);',
      "const x = await import('./a' + '.js');",
    ].map((text) => ({
      rule: `imports can be read, and not ${text}`,
      file: 'agent/control/x.ts',
      text,
      says: /which hides what it imports/,
    })),
    ...['node:fs', 'node:net', 'node:child_process', 'fs', 'fs/promises', 'pino', 'nats', 'prom-client', 'undici'].map(
      (name) => ({
        rule: `a pure room does not import ${name}`,
        file: 'shared/routing/x.ts',
        text: `import x from '${name}';`,
        says: new RegExp(`is in a pure room, but imports ${name}`),
      }),
    ),
    ...[
      ['Date.now', 'export const x = Date.now();'],
      ['Math.random', 'export const x = Math.random();'],
      ['new Date()', 'export const x = new Date();'],
      ['performance.now', 'export const x = performance.now();'],
      ['new Date()', 'export const x = new Date;'],
      ['the value Date', 'export const x = Date();'],
      ['the value Date', 'const { now } = Date;'],
      ['the value Date', "export const x = Date['now']();"],
      ['globalThis', 'export const x = globalThis.Date.now();'],
      ['performance.now', 'const { now } = performance;'],
      ['Math.random', 'const { random } = Math;'],
      ['fetch', "export const x = fetch('http://x');"],
      ['process', "export const x = process.env['X'];"],
      ['process', 'const { env } = process;'],
      ['randomBytes', "import { randomBytes } from 'node:crypto';"],
    ].map(([what = '', text = '']) => ({
      rule: `a pure room does not use ${what}`,
      file: 'agent/dataplane/route/x.ts',
      text,
      says: new RegExp(`is in a pure room, but uses ${what.replace('()', String.raw`\(\)`)}`),
    })),
    ...rules.pureRooms.map((room) => ({
      rule: `${room} is a pure room`,
      file: `${room}x.ts`,
      text: 'export const x = Date.now();',
      says: /is in a pure room, but uses Date\.now/,
    })),
    {
      rule: 'a pure room does not import something impure through another file',
      file: 'controller/analysis/lint/x.ts',
      text: "import { x } from '../../../shared/private-file.js';",
      says: /is in a pure room, but shared\/private-file\.ts imports node:fs/,
    },
    ...rules.lateLibraries.flatMap(({ file, names }) =>
      names.map((name) => ({
        rule: `${file} does not load ${name} before it runs`,
        file,
        text: `import x from '${name}';`,
        says: new RegExp(`loads ${name} through ${file} before it runs`),
      })),
    ),
    {
      rule: 'a lower floor does not import a higher one',
      file: 'agent/dataplane/relay/x.ts',
      text: "import type { X } from '../flow/outbound.js';",
      says: /higher floor of the data plane/,
    },
    {
      rule: 'the floors hold in the control thread',
      file: 'agent/control/state/x.ts',
      text: "import { x } from '../control-plane.js';",
      says: /higher floor of the agent's control thread/,
    },
    {
      rule: 'the floors hold in the controller',
      file: 'controller/compile/x.ts',
      text: "import { x } from '../store/journal.js';",
      says: /higher floor of the controller/,
    },
    {
      rule: 'only a main.ts ends its program',
      file: 'controller/store/x.ts',
      text: 'process.exit(1);',
      says: /process\.exit outside a main\.ts/,
    },
    {
      rule: 'a socket of the agent is not reset by the call that can lose it',
      file: 'agent/dataplane/relay/x.ts',
      text: 'socket.resetAndDestroy();',
      says: /calls resetAndDestroy: it leaks a socket/,
    },
    {
      rule: 'listeners of others stay where they are',
      file: 'shared/http/x.ts',
      text: "socket.removeAllListeners('timeout');",
      says: /calls removeAllListeners: it takes off listeners that others need/,
    },
    {
      rule: 'a deadline is held until it comes',
      file: 'controller/store/x.ts',
      text: 'await ask(AbortSignal.timeout(1000));',
      says: /calls AbortSignal.timeout: combined with another signal, it is collected/,
    },
  ];
  for (const { rule, file, text, says } of broken) {
    it(`finds a file that breaks a rule: ${rule}`, () => {
      const found = violationsWith(file, text);
      assert.ok(found.length > 0 && found.every((line) => line.startsWith(`${file}: `)), found.join('\n'));
      assert.match(found.join('\n'), says);
    });
  }

  it('has a file above that breaks each row of its tables', () => {
    const found = broken.flatMap(({ file, text }) => violationsWith(file, text));
    const wanted = [
      // Tests and the demo may import everything, and nothing may import them.
      ...Object.keys(rules.programs)
        .filter((program) => !['test/', 'deploy/'].includes(program))
        .map((program) => `: ${program} imports only`),
      ...rules.packages.flatMap(({ names }) => names.map((name) => `imports ${name}, which belongs to`)),
      ...rules.lateLibraries.flatMap(({ file, names }) => names.map((name) => `${file}: loads ${name} `)),
      ...['control', 'worker'].map((thread) => `the other thread runs: ${thread} code`),
      'but both threads run this file',
      ...rules.impureCode.map(({ what }) => `is in a pure room, but uses ${what}`),
      ...rules.unreadableImports.map(({ what }) => `uses ${what}, which hides what it imports`),
      ...rules.forbiddenCalls.map(({ what }) => `calls ${what}: `),
      ...Object.keys(rules.buildings).map((building) => `which is on a higher floor of ${building}`),
      'calls process.exit outside a main.ts',
    ];
    const isFound = (text: string): boolean => found.some((line) => line.includes(text));
    assert.deepEqual(
      wanted.filter((text) => !isFound(text)),
      [],
    );
    assert.deepEqual(
      rules.pureRooms.filter((room) => !found.some((line) => line.startsWith(`${room}x.ts: is in a pure room`))),
      [],
    );
  });

  it('finds what a file exports and no other file uses', () => {
    const used = parseSource(
      'shared/x.ts',
      'export const used = 1;\nexport function unusedHere() {\n  return unusedHere;\n}',
    );
    const user = parseSource('shared/y.ts', "import { used } from './x.js';\n// unusedHere\nused();");
    assert.deepEqual(findUnusedExports([used, user]), ['shared/x.ts: exports unusedHere, which no other file uses']);
  });

  it('follows imports for what must be loaded late, and not those that are late', () => {
    const link = parseSource('shared/bus/x.ts', "import { connect } from 'nats';");
    const [now, late] = ["import '../shared/bus/x.js';", "await import('../shared/bus/x.js');"];
    const [loadsNow, loadsLate] = [now, late].map((text) => {
      const run = parseSource('agent/run.ts', text);
      return findViolations([link, run], [run]);
    });
    assert.match(loadsNow?.join() ?? '', /agent\/run\.ts: loads nats through shared\/bus\/x\.ts before it runs/);
    assert.deepEqual(loadsLate, []);
  });

  it('reads imports as the compiler does', () => {
    const text = [
      "import type { A } from './a.js';",
      "import { type B, type C } from './b.js';",
      "import {\n  type D,\n  e,\n} from './d.js';",
      "export * from '../f.js';",
      "import './g.js';",
      "// import { h } from './h.js';",
      "/* import { i } from './i.js'; */",
      "const j = await import('./j.js');",
      "import k from 'node:fs';",
      'import l from "./l.js";',
      "  export { m } from './m.js';",
    ].join('\n');
    assert.deepEqual(
      parseSource('agent/x/y.ts', text).imports.map(({ specifier, file, isType, isLate }) => [
        specifier,
        file,
        isType,
        ...(isLate ? ['late'] : []),
      ]),
      [
        ['./a.js', 'agent/x/a.ts', true],
        ['./b.js', 'agent/x/b.ts', true],
        ['./d.js', 'agent/x/d.ts', false],
        ['../f.js', 'agent/f.ts', false],
        ['./g.js', 'agent/x/g.ts', false],
        ['node:fs', null, false],
        ['./l.js', 'agent/x/l.ts', false],
        ['./m.js', 'agent/x/m.ts', false],
        ['./j.js', 'agent/x/j.ts', false, 'late'],
      ],
    );
  });
});
