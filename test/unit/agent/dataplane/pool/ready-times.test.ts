import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SharedRegistry } from '../../../../../agent/dataplane/pool/shared-registry.js';
import { longestWarmupMs } from '../../../../../shared/policy/warmup.js';
import { registryKey, type RegistryEntry, type WorkloadEntry } from '../../../../../shared/routing/registry-entry.js';
import { workload } from '../../../../support/routing/registry-entries.js';

const pod = (name: string, more: Partial<WorkloadEntry> = {}): WorkloadEntry => ({
  ...workload(`shop/${name}`, ['198.18.0.1']),
  netns: `pod:${name}`,
  ...more,
});

/** What workers get to know: which workloads became ready, and how long ago. */
function world() {
  const clock = { ms: 1000 };
  const registry = new SharedRegistry({ nowMs: () => clock.ms });
  const send = (upserts: readonly RegistryEntry[], more: { isFull?: boolean; removals?: readonly string[] } = {}) =>
    registry
      .absorb({ type: 'registry', isFull: more.isFull ?? false, upserts, removals: more.removals ?? [] })
      .newlyReady?.map(({ workload: name }) => name) ?? [];
  const known = () => (registry.replay()?.newlyReady ?? []).map(({ workload: name, agoMs }) => [name, agoMs]);
  return { clock, send, known };
}

describe('workloads that became ready', () => {
  it('are none of those in the first registry of an agent', () => {
    const { send, known } = world();
    assert.deepEqual(send([pod('a'), pod('b')], { isFull: true }), []);
    assert.deepEqual(known(), []);
  });

  it('are those that come, that were not ready, and that are others with the name', () => {
    const { send } = world();
    send([pod('a'), pod('b', { availability: 'unready' })], { isFull: true });
    assert.deepEqual(send([pod('c')]), ['shop/c'], 'it is new');
    assert.deepEqual(send([pod('d', { availability: 'unready' })]), [], 'it is not ready');
    assert.deepEqual(send([pod('b'), pod('d')]), ['shop/b', 'shop/d'], 'they are ready now');
    assert.deepEqual(send([pod('a', { labels: { version: 'v2' } })]), [], 'it was ready before');
    assert.deepEqual(send([pod('a', { netns: 'pod:another' })]), ['shop/a'], 'it is another pod');
  });

  it('are found in a registry that comes again as a whole, and in a change that makes a new image', () => {
    const { send } = world();
    send([pod('a')], { isFull: true });
    assert.deepEqual(send([pod('a'), pod('b')], { isFull: true }), ['shop/b']);
    const many = Array.from({ length: 1500 }, (_, at) => pod(`p${at}`));
    assert.equal(send(many).length, 1500);
  });

  it('are told to a thread that starts, with the time that is over, until no warm-up lasts longer', () => {
    const { clock, send, known } = world();
    send([pod('a')], { isFull: true });
    send([pod('b'), pod('c')]);
    clock.ms += 500;
    send([pod('d')]);
    assert.deepEqual(known(), [
      ['shop/b', 500],
      ['shop/c', 500],
      ['shop/d', 0],
    ]);
    send([pod('b', { availability: 'ending' })], { removals: [registryKey(pod('c'))] });
    assert.deepEqual(known(), [['shop/d', 0]]);
    send([pod('b')], { isFull: true });
    assert.deepEqual(known(), [['shop/b', 0]], 'd is not in the whole registry');
    clock.ms += longestWarmupMs;
    assert.deepEqual(known(), []);
  });
});
