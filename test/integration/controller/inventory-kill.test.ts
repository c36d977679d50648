import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inventoryDirectory } from '../../support/controller/inventory-fixture.js';
import { killedWriter } from '../../support/controller/killed-writer.js';

const program = fileURLToPath(new URL('../../support/controller/inventory-writer.js', import.meta.url));

test('an inventory whose writer is killed at any moment holds everything that was said to be on disk', async () => {
  await using directory = await inventoryDirectory();
  let before = 0;
  for (let life = 0; life < 12; life++) {
    const newest = Math.max(...(await killedWriter(program, directory.file, 20 + life * 37)));
    await using inventory = await directory.open();
    assert.equal(inventory.isUsable, true, `life ${life}`);
    assert.ok(inventory.sequence >= newest, `life ${life}: ${inventory.sequence} on disk, ${newest} acknowledged`);
    assert.ok(newest > before);
    before = inventory.sequence;
    const rounds = [...inventory.registry.published.values()].map(({ sequence }) => sequence);
    assert.equal(Math.max(...rounds), inventory.sequence);
  }
});
