import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentState } from '../../../../controller/fleet/agent-registry.js';
import { lastHeartbeats } from '../../../../controller/fleet/last-heartbeats.js';

test('it waits for the agents that can still be told something, and for no other', async () => {
  let looks = 0;
  const states = (): readonly AgentState[] => (++looks < 4 ? ['ready', 'stopped'] : ['stopped', 'stale', 'joined']);
  await lastHeartbeats({ states, everyMs: 1 });
  assert.equal(looks, 4);
});

test('an agent that never ends does not keep it', async () => {
  let looks = 0;
  const states = (): readonly AgentState[] => {
    looks++;
    return ['behind'];
  };
  await lastHeartbeats({ states, withinMs: 10, everyMs: 2 });
  assert.equal(looks, 5);
});
