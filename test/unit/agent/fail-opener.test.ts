import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { pino } from 'pino';
import { StateDirectory } from '../../../agent/control/state/state-directory.js';
import { FailOpener } from '../../../agent/fail-opener.js';
import { workloadName } from '../../../shared/routing/names.js';

let stateDir: string;
let directory: StateDirectory;
let opened: string[][];
let opener: FailOpener;

beforeEach(() => {
  stateDir = mkdtempSync(path.join(tmpdir(), 'culvert-fail-opener-'));
  directory = new StateDirectory({ path: stateDir });
  opened = [];
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
      remove: ({ netnsPaths }) => {
        opened.push([...netnsPaths]);
        resolve();
        return Promise.resolve([]);
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
  assert.deepEqual(opened, [['/run/netns/client', '/run/netns/neighbour']]);
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
  assert.deepEqual(opened, [['/run/netns/client', '/run/netns/neighbour']], 'after its death');
});
