import assert from 'node:assert/strict';
import { test } from 'node:test';
import { awaitedBy, sourcesLeftOpen } from '../../../../agent/control/workloads/joint-arrival.js';
import type { IpAddress } from '../../../../shared/address.js';
import { workloadNamed } from '../../../support/routing/names.js';

const nowMs = 1_800_000_000_000;
const came = (name: string, agoMs: number) => ({ name: workloadNamed(`shop/${name}`), sinceMs: nowMs - agoMs });

test('a new workload waits for another that came with it, for two seconds after it came itself', () => {
  const awaited = (ready: number[], coming: number[]): readonly [string, number] | null => {
    const found = awaitedBy({
      ready: ready.map((agoMs, index) => came(`ready${index}`, agoMs)),
      coming: coming.map((agoMs, index) => came(`coming${index}`, agoMs)),
      nowMs,
    });
    return found === null ? null : [found.name, found.forMs];
  };
  assert.deepEqual(awaited([300], [200]), ['shop/coming0', 1700]);
  assert.deepEqual(awaited([300, 900], [5000, 200]), ['shop/coming1', 1100]);
  assert.equal(awaited([300], []), null, 'no other one');
  assert.equal(awaited([], [200]), null, 'none that waits');
  assert.equal(awaited([300], [2000]), null, 'the other one is late');
  assert.equal(awaited([2000], [200]), null, 'however many more come, it has waited long enough');
});

test('one that came earlier, or comes later, and is not ready holds up no other', () => {
  const awaited = (readyAgoMs: number, comingAgoMs: number): boolean =>
    awaitedBy({ ready: [came('ready', readyAgoMs)], coming: [came('coming', comingAgoMs)], nowMs }) !== null;
  assert.deepEqual([awaited(300, 800), awaited(300, 801)], [true, false], 'earlier');
  assert.deepEqual([awaited(600, 100), awaited(600, 99)], [true, false], 'later');
});

test('a new workload is open to those alone that arrive with it and have no rules yet', () => {
  const one = (name: string, hasRules: boolean, ...addresses: string[]) => ({
    held: { name: workloadNamed(`shop/${name}`), hasRules },
    addresses: addresses as IpAddress[],
  });
  const arriving = [
    one('a', true, '198.18.0.1'),
    one('b', false, '198.18.0.2', 'fd00::2'),
    one('c', false, '198.18.0.3'),
  ];
  assert.deepEqual(sourcesLeftOpen(workloadNamed('shop/a'), arriving), ['198.18.0.2', 'fd00::2', '198.18.0.3']);
  assert.deepEqual(sourcesLeftOpen(workloadNamed('shop/b'), arriving), ['198.18.0.3']);
  const many = Array.from({ length: 400 }, (_, index) => one(`w${index}`, false, `198.18.1.${index}`));
  assert.equal(sourcesLeftOpen(workloadNamed('shop/a'), many).length, 256);
});
