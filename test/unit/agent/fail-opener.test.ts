import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ChildProcess } from 'node:child_process';
import { afterEach, beforeEach, test } from 'node:test';
import { pino } from 'pino';
import { StateDirectory } from '../../../agent/control/state/state-directory.js';
import { FailOpener } from '../../../agent/fail-opener.js';
import { workloadName } from '../../../shared/routing/names.js';

let stateDir: string;
let directory: StateDirectory;
let opened: string[][];
let opener: FailOpener;
/** Each removal waits for it. */
let maySettle: Promise<void>;
const child = { connected: false } as ChildProcess;

beforeEach(() => {
  stateDir = mkdtempSync(path.join(tmpdir(), 'culvert-fail-opener-'));
  directory = new StateDirectory({ path: stateDir });
  opened = [];
  maySettle = Promise.resolve();
});

afterEach(async () => {
  await opener.close();
  rmSync(stateDir, { recursive: true, force: true });
});

/** `opened` gets the namespaces that are opened; the promise resolves when something is. */
function makeOpener(): Promise<void> {
  return new Promise((resolve) => {
    opener = new FailOpener({
      stateDir,
      log: pino({ level: 'silent' }),
      onOpen: () => undefined,
      remove: async ({ netnsPaths, keepsHost }) => {
        opened.push([...netnsPaths, ...(keepsHost === true ? [] : ['host'])]);
        resolve();
        await maySettle;
        return [];
      },
    });
  });
}

async function captured(...names: readonly string[]): Promise<void> {
  const namespaces = names.map((name, at) => ({
    workload: workloadName({ namespace: 'shop', name }),
    netnsPath: `/run/netns/${name}`,
    netnsInode: at + 1,
    addresses: [],
  }));
  await directory.captured.write({ namespaces });
}

void test('what the dead agent had captured is opened when the next one stays away', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const isOpened = makeOpener();
  await captured('client', 'neighbour');
  await opener.expectChild(1000);
  t.mock.timers.tick(999);
  assert.deepEqual(opened, []);
  t.mock.timers.tick(1);
  await isOpened;
  assert.deepEqual(opened, [['/run/netns/client', '/run/netns/neighbour', 'host']]);
});

void test('what an agent captures itself stays closed, however long its start takes', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const isOpened = makeOpener();
  await opener.expectChild(10_000);
  await captured('client');
  t.mock.timers.tick(10_000);
  // Ends what is under way.
  await opener.close();
  assert.deepEqual(opened, []);
  await captured('client', 'neighbour');
  await opener.expectChild(1000);
  t.mock.timers.tick(1000);
  await isOpened;
  assert.deepEqual(opened, [['/run/netns/client', '/run/netns/neighbour', 'host']], 'after its death');
});

void test('an agent that takes rules while they are removed waits for that', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const isOpened = makeOpener();
  let settle = (): void => undefined;
  maySettle = new Promise((resolve) => (settle = resolve));
  await captured('client');
  await opener.expectChild(1000);
  t.mock.timers.tick(1000);
  await isOpened;
  let isTaken = false;
  const taken = opener.childTakes(child, 1).then(() => (isTaken = true));
  await new Promise(setImmediate);
  assert.equal(isTaken, false);
  settle();
  await taken;
});

void test('what a living agent has taken is not opened, until it gives it back or ends', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  void makeOpener();
  await captured('client', 'neighbour', 'other');
  await opener.expectChild(1000);
  await opener.childTakes(child, 1);
  await opener.childTakes(child, 2);
  t.mock.timers.tick(1000);
  // Ends what is under way.
  await opener.childTakes(child, 2);
  assert.deepEqual(opened, [['/run/netns/other']]);
  opener.childGivesBack(child, 2);
  await opener.childTakes(child, 1);
  assert.deepEqual(opened.slice(1), [['/run/netns/neighbour']], 'its rules do not load');
  opener.childEnded(child);
  await opener.expectChild(1000);
  t.mock.timers.tick(1000);
  await opener.close();
  assert.deepEqual(opened.slice(2), [['/run/netns/client', '/run/netns/neighbour', '/run/netns/other', 'host']]);
});

void test('nothing that is given back is opened while an agent serves', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  void makeOpener();
  await captured('client');
  await opener.expectChild(1000);
  await opener.childTakes(child, 1);
  opener.childServes(child);
  opener.childGivesBack(child, 1);
  t.mock.timers.tick(1000);
  await opener.close();
  assert.deepEqual(opened, []);
});
