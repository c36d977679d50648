import process from 'node:process';
import { Inventory } from '../../../controller/inventory/inventory.js';
import { createLog } from '../../../shared/log.js';
import { found, trustDomain, workloadEntry } from './inventory-fixture.js';

/**
 * A program that the tests kill: `inventory-writer FILE` opens an inventory, makes changes as fast as it can, several at a
 * time, and prints the sequence of each that is on disk. Large entries make it shorten the file again and again.
 */
const [file = ''] = process.argv.slice(2);
const log = createLog({ name: 'inventory-writer', level: 'error' });
const inventory = await Inventory.open({ path: file, log, nowMs: Date.now, trustDomain });
if (!inventory.isUsable) await inventory.exclusively((turn) => turn.adopt([], { sequence: 1, revision: 0 }));
const source = inventory.source('writer');
const filler = 'x'.repeat(20_000);
for (;;) {
  const changes = Array.from({ length: 8 }, async (_, lane) => {
    const labels = { filler, round: String(inventory.sequence) };
    const entry = workloadEntry(`w${lane}`, { ip: `198.18.0.${lane}`, labels });
    const { sequence } = await source.change({ upserts: [found(entry)], removals: [] });
    process.stdout.write(`${sequence}\n`);
  });
  await Promise.all(changes);
}
