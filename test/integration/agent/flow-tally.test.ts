import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { FlowTally } from '../../../agent/telemetry/flows/flow-tally.js';
import { thisProcess } from '../../../agent/thread/process-mark.js';
import { endedProcess } from '../../support/agent/ended-process.js';
import { silentLog, temporaryDirectory } from '../../support/controller/controller-fixture.js';

const counted = (unconfirmed: number, unstored = unconfirmed) => ({ unconfirmed, unstored });

/** That of an agent which ends without closing it, or which still runs. */
const tallyOf = (path: string, o: { readonly isKilled?: boolean; readonly hasPredecessor?: boolean } = {}): FlowTally =>
  new FlowTally({
    path,
    log: silentLog,
    hasPredecessor: o.hasPredecessor === true,
    ...(o.isKilled === true ? { owner: endedProcess } : {}),
  });

test('what a process had not reported is known to the next one, until it says that the controller knows', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  const killed = tallyOf(path, { isKilled: true });
  assert.equal(killed.lostBefore, 0);
  killed.setCounted(counted(40));
  killed.setCounted(counted(12, 20));
  killed.setOpen(0, 2);
  killed.setOpen(1, 3);
  const killedAgain = tallyOf(path, { isKilled: true });
  assert.equal(killedAgain.lostBefore, 17);
  assert.deepEqual(killedAgain.lostRuns, [{ run: killed.run, connections: 25, unreported: 17 }]);
  killedAgain.setCounted(counted(1));
  const next = tallyOf(path, { isKilled: true });
  assert.equal(next.lostBefore, 18);
  assert.deepEqual(
    next.lostRuns.map(({ run, connections }) => [run, connections]),
    [
      [killedAgain.run, 1],
      [killed.run, 25],
    ],
  );
  next.setCounted(counted(2));
  next.settle();
  const last = tallyOf(path);
  assert.deepEqual([last.lostBefore, last.lostRuns.map(({ run }) => run)], [2, [next.run]]);
  last.settle();
  last.close();
  assert.deepEqual(await readdir(directory.path), []);
});

test('a reload loses nothing: the agent that drains reports its own connections, and neither touches the other file', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  const draining = tallyOf(path);
  draining.setCounted(counted(37, 120));
  const next = tallyOf(path, { isKilled: true, hasPredecessor: true });
  assert.deepEqual([next.lostBefore, next.lostRuns], [0, []]);
  next.setCounted(counted(5, 9));
  draining.setCounted(counted(0));
  draining.close();
  const last = tallyOf(path);
  assert.deepEqual(last.lostRuns, [{ run: next.run, connections: 9, unreported: 5 }], 'killed after the reload');
  assert.equal(last.lostBefore, 5);
});

test('an agent that is killed right after a reload is counted once, while the one before it still drains', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  const draining = tallyOf(path);
  draining.setCounted(counted(3));
  const killed = tallyOf(path, { isKilled: true, hasPredecessor: true });
  killed.setCounted(counted(8));
  const next = tallyOf(path);
  assert.deepEqual(next.lostRuns, [{ run: killed.run, connections: 8, unreported: 8 }]);
  assert.equal(tallyOf(path).lostBefore, 0);
  // It could not store everything before it ended, and says so to a start after its end.
  draining.close();
  assert.equal((await readdir(directory.path)).filter((name) => name.endsWith(draining.run)).length, 1);
});

test('the agent of another container, which takes the host over, is no agent that ended', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  const [boot = ''] = thisProcess().split(' ');
  const owner = `${boot} 1 1 pid:[1]`;
  const other = new FlowTally({ path, log: silentLog, hasPredecessor: false, owner });
  other.setCounted(counted(7));
  assert.equal(tallyOf(path, { isKilled: true, hasPredecessor: true }).lostBefore, 0, 'it still runs');
  assert.equal(tallyOf(path).lostBefore, 7, 'no agent runs any more');
});

test('a start that fails leaves what it took over to the next one', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  tallyOf(path, { isKilled: true }).setCounted(counted(4));
  const failed = tallyOf(path, { isKilled: true });
  failed.close();
  assert.equal(tallyOf(path).lostBefore, 4);
});

test('a damaged file counts as none, and one that cannot be written costs only the number', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  await writeFile(path, 'culvert-flows 12');
  await writeFile(`${path}.0123456789abcdef`, 'culvert-flows 000000000012 0000');
  assert.equal(tallyOf(path).lostBefore, 0);
  const tally = tallyOf(join(directory.path, 'missing', 'flows.tally'));
  tally.setCounted(counted(5));
  tally.close();
  assert.equal(tally.lostBefore, 0);
});

test('the file of an earlier version is read once its agent has ended, and repeated kills are bounded', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  await writeFile(path, 'culvert-flows 000000000012\n');
  const successor = tallyOf(path, { isKilled: true, hasPredecessor: true });
  assert.equal(successor.lostBefore, 0);
  successor.close();
  for (let kill = 1; kill <= 30; kill++) tallyOf(path, { isKilled: true }).setCounted(counted(1));
  const { lostBefore, lostRuns } = tallyOf(path);
  assert.deepEqual([lostBefore, lostRuns.length], [42, 16]);
});
