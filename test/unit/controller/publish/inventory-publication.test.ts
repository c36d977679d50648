import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Inventory, InventoryChanged } from '../../../../controller/inventory/inventory.js';
import type { PublishedEntry } from '../../../../controller/inventory/merged-registry.js';
import { InventoryPublication, type InventoryUpdate } from '../../../../controller/publish/inventory-publication.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { workloadEntry } from '../../../support/controller/inventory-fixture.js';

test('a change of a thousand workloads is signed in steps, and published once as a whole', async () => {
  const published = new Map<string, PublishedEntry>();
  let [signed, mostAtOnce] = [0, 0];
  let notify: (changed: InventoryChanged) => void = () => undefined;
  const inventory = {
    registry: { published },
    documents: new Map(),
    sequence: 1,
    onChange: (listener: typeof notify) => (notify = listener),
    readDurable: <T>(read: () => T): Promise<T> => {
      const before = signed;
      const value = read();
      mostAtOnce = Math.max(mostAtOnce, signed - before);
      return Promise.resolve(value);
    },
  };
  const updates: InventoryUpdate[] = [];
  const publication = new InventoryPublication({
    inventory: inventory as unknown as Inventory,
    privateKeyPem: generateSigningKey().privateKey,
    onFailure: (error) => assert.fail(String(error)),
  });
  await publication.settle({
    publishInventory: (update) => Promise.resolve(void updates.push(update)),
    convergeInventory: () => Promise.resolve(),
  });
  for (let n = 0; n < 1000; n++) {
    const entry = workloadEntry(`w${n}`, { ip: `198.18.${n >> 8}.${n & 255}` });
    published.set(`workload.shop.w${n}`, {
      get entry() {
        signed += 1;
        return entry;
      },
      sequence: 2,
    });
  }
  inventory.sequence = 2;
  notify({ published: new Set(published.keys()), documents: new Set() });
  await publication.reached(2);
  assert.deepEqual([updates.length, updates[0]?.entries.size, signed], [1, 1000, 1000]);
  assert.ok(mostAtOnce <= 100, `${mostAtOnce} at once`);
  await publication.idle();
});
