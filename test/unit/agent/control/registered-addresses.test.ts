import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RegisteredAddresses } from '../../../../agent/control/workloads/registered-addresses.js';
import type { IpAddress } from '../../../../shared/address.js';
import { workloadNamed } from '../../../support/routing/names.js';

function workloads(count: number, ...addresses: string[]) {
  return Array.from({ length: count }, (_, index) => ({
    name: workloadNamed(`shop/w${index}`),
    netnsPath: `/run/netns/w${index}`,
    addresses: addresses as IpAddress[],
    captured: true,
  }));
}

test('an address that comes a moment after its namespace is a problem until then, and one that went is found later', () => {
  let nowMs = 0;
  let missing: readonly IpAddress[] = ['198.18.0.44' as IpAddress];
  const addresses = new RegisteredAddresses({ elapsedMs: () => nowMs, look: () => missing });
  const problems = () => [...addresses.problems(workloads(1, '198.18.0.44'))];
  const lacking = [
    'shop/w0',
    'its namespace does not have the registered address 198.18.0.44: connections from other addresses are refused (NOT_OWN_ADDRESS)',
  ];
  assert.deepEqual(problems(), [lacking]);
  missing = [];
  assert.deepEqual(problems(), [lacking]);
  nowMs += 1000;
  assert.deepEqual(problems(), []);
  missing = ['198.18.0.44' as IpAddress];
  nowMs += 29_999;
  assert.deepEqual(problems(), []);
  nowMs += 1;
  assert.deepEqual(problems(), [lacking]);
  assert.deepEqual([...addresses.problems([])], []);
});

test('of thousands of workloads only some are looked at in one go, each in its turn', () => {
  const seen: string[] = [];
  const look = (netnsPath: string) => {
    seen.push(netnsPath);
    return [];
  };
  const addresses = new RegisteredAddresses({ elapsedMs: () => 0, look });
  const all = workloads(80, '198.18.0.44');
  for (const count of [32, 64, 80, 80]) {
    addresses.problems(all);
    assert.equal(seen.length, count);
  }
  assert.equal(new Set(seen).size, 80);
  // What is registered changed: what was found says nothing of it.
  addresses.problems(workloads(80, '198.18.0.45').slice(0, 1));
  assert.equal(seen.length, 81);
});
