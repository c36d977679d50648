import assert from 'node:assert/strict';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { FlowTally } from '../../../agent/telemetry/flows/flow-tally.js';
import { silentLog, temporaryDirectory } from '../../support/controller/controller-fixture.js';

test('what a process had not reported is known to the next one, until it says that the controller knows', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'flows.tally');
  const killed = new FlowTally({ path, log: silentLog });
  assert.equal(killed.lostBefore, 0);
  killed.setCounted(40);
  killed.setCounted(12);
  killed.setOpen(0, 2);
  killed.setOpen(1, 3);
  const killedAgain = new FlowTally({ path, log: silentLog });
  assert.equal(killedAgain.lostBefore, 17);
  killedAgain.setCounted(1);
  const next = new FlowTally({ path, log: silentLog });
  assert.equal(next.lostBefore, 18);
  next.settle();
  next.close();
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
  tally.setCounted(5);
  tally.close();
  assert.equal(tally.lostBefore, 0);
});
