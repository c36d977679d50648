import assert from 'node:assert/strict';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { FlowTally } from '../../../agent/telemetry/flows/flow-tally.js';
import { silentLog, temporaryDirectory } from '../../support/controller/controller-fixture.js';

const counted = (unconfirmed: number, unstored = unconfirmed) => ({ unconfirmed, unstored });

test('what a process had not reported is known to the next one, until it says that the controller knows', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  const killed = new FlowTally({ path, log: silentLog });
  assert.equal(killed.lostBefore, 0);
  killed.setCounted(counted(40));
  killed.setCounted(counted(12, 20));
  killed.setOpen(0, 2);
  killed.setOpen(1, 3);
  const killedAgain = new FlowTally({ path, log: silentLog });
  assert.equal(killedAgain.lostBefore, 17);
  assert.deepEqual(killedAgain.lostRuns, [{ run: killed.run, connections: 25, unreported: 17 }]);
  killedAgain.setCounted(counted(1));
  const next = new FlowTally({ path, log: silentLog });
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
  const last = new FlowTally({ path, log: silentLog });
  assert.deepEqual([last.lostBefore, last.lostRuns.map(({ run }) => run)], [2, [next.run]]);
  last.settle();
  last.close();
  assert.equal(new FlowTally({ path, log: silentLog }).lostBefore, 0);
});

test('a damaged file counts as none, and one that cannot be written costs only the number', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  await writeFile(path, 'culvert-flows 12');
  assert.equal(new FlowTally({ path, log: silentLog }).lostBefore, 0);
  await rm(path);
  await mkdir(path);
  await chmod(path, 0o700);
  const tally = new FlowTally({ path, log: silentLog });
  tally.setCounted(counted(5));
  tally.close();
  assert.equal(tally.lostBefore, 0);
});

test('the file of an earlier version is read, and one agent that is killed again and again is bounded', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  await writeFile(path, 'culvert-flows 000000000012\n');
  for (let kill = 1; kill <= 30; kill++) new FlowTally({ path, log: silentLog }).setCounted(counted(1));
  const { lostBefore, lostRuns } = new FlowTally({ path, log: silentLog });
  assert.deepEqual([lostBefore, lostRuns.length], [42, 16]);
});
