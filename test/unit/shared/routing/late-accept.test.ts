import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CompiledExternal } from '../../../../shared/policy/snapshot.js';
import { isAcceptedLate, LateExternals, lateAcceptPortsOf } from '../../../../shared/routing/late-accept.js';
import type { RegistryEntry } from '../../../../shared/routing/registry-entry.js';
import { RegistryIndex } from '../../../../agent/dataplane/route/registry-index.js';
import { ip, service, workload } from '../../../support/routing/registry-entries.js';

const db = { ...workload('shop/db', ['198.18.0.1', 'fd00::1'], { app: 'db' }), lateAcceptPorts: [5432, 5433] };
const web = workload('shop/web', ['198.18.0.2'], { app: 'web' });
const front = {
  ...service('shop/front', ['198.19.0.1'], { app: 'db' }),
  ports: [
    { port: 80, targetPort: 5432, earlyAccept: false as const },
    { port: 81, targetPort: 5432 },
  ],
};
const bank: CompiledExternal = {
  name: 'shop/bank',
  hosts: ['bank.example'],
  cidrs: ['203.0.113.0/24', 'fd00:9::/64'],
  ports: [],
  lateAcceptPorts: [443],
};

function registryOf(...entries: readonly RegistryEntry[]): RegistryIndex {
  const index = new RegistryIndex();
  index.apply({ image: null, upserts: entries, removals: [] });
  return index;
}

const rows: readonly [string, number, boolean, string][] = [
  ['198.18.0.1', 5432, true, 'a port of a workload that asks for it'],
  ['fd00::1', 5433, true, 'the same over IPv6'],
  ['198.18.0.1', 80, false, 'another port of the workload'],
  ['198.18.0.2', 5432, false, 'the same port of another workload'],
  ['198.19.0.1', 80, true, 'a port of a service that asks for it'],
  ['198.19.0.1', 81, false, 'a port of a service, whose workload asks for it'],
  ['198.19.0.1', 82, false, 'a port that the service does not serve'],
  ['203.0.113.9', 443, true, 'a port of a ServiceEntry that asks for it'],
  ['fd00:9::7', 443, true, 'the same over IPv6'],
  ['203.0.113.9', 80, false, 'another port of it'],
  ['192.0.2.1', 443, false, 'the same port of an address that nothing names'],
];
for (const [address, port, isLate, what] of rows) {
  test(`${what} is accepted ${isLate ? 'late' : 'early'}`, () => {
    const externals = new LateExternals([bank]);
    assert.equal(isAcceptedLate(registryOf(db, web, front), externals, { ip: ip(address), port }), isLate);
  });
}

test('the ports of an entry that are accepted late are those that clients dial', () => {
  assert.deepEqual([db, web, front].map(lateAcceptPortsOf), [[5432, 5433], [], [80]]);
});

test('a look-up parses no network: 10,000 of them cost a SYN about what ten do, and only changed ones are read again', () => {
  const entry = (networks: number): CompiledExternal => ({
    ...bank,
    cidrs: Array.from({ length: networks }, (_, index) => `2001:db8:${index.toString(16)}::/48`),
  });
  const outside = { ip: ip('2002::1'), port: 443 };
  const cpuMs = (step: () => unknown): number => {
    const before = process.cpuUsage();
    step();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  };
  const many = [entry(10_000)];
  const built = new LateExternals(many);
  const read = cpuMs(() => new LateExternals(many));
  const lookUps = cpuMs(() => {
    for (let i = 0; i < 20; i++) assert.equal(isAcceptedLate(registryOf(), built, outside), false);
  });
  assert.ok(lookUps < read, `20 look-ups took ${lookUps} ms, reading the networks once ${read} ms`);
  const sameAgain = cpuMs(() => new LateExternals(structuredClone(many), built));
  assert.ok(sameAgain < read, `an unchanged set took ${sameAgain} ms, a new one ${read} ms`);
  const changed = new LateExternals([{ ...bank, cidrs: ['2002::/16'] }], built);
  assert.deepEqual([changed.has(outside), built.has(outside)], [true, false]);
  assert.equal(new LateExternals([], changed).has(outside), false);
});
