import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inventoryDirectory } from '../../support/controller/inventory-fixture.js';

const program = fileURLToPath(new URL('../../support/controller/inventory-writer.js', import.meta.url));

test('an inventory whose writer is killed at any moment holds everything that was said to be on disk', async () => {
  await using directory = await inventoryDirectory();
  let before = 0;
  for (let life = 0; life < 12; life++) {
    const child = spawn(process.execPath, [program, directory.file], { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.setEncoding('utf8');
    const wanted = 20 + life * 37;
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.stdout.on('data', (text: string) => {
        out += text;
        if (out.split('\n').length > wanted) resolve();
      });
    });
    child.kill('SIGKILL');
    await once(child, 'close');
    // A last line without its end was cut by the kill too.
    const acknowledged = out.split('\n').slice(0, -1).map(Number);
    const newest = Math.max(...acknowledged);
    await using inventory = await directory.open();
    assert.equal(inventory.isUsable, true, `life ${life}`);
    assert.ok(inventory.sequence >= newest, `life ${life}: ${inventory.sequence} on disk, ${newest} acknowledged`);
    assert.ok(newest > before);
    before = inventory.sequence;
    const rounds = [...inventory.registry.published.values()].map(({ sequence }) => sequence);
    assert.equal(Math.max(...rounds), inventory.sequence);
  }
});
