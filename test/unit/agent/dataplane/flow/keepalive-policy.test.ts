import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { probingBy } from '../../../../../agent/dataplane/flow/keepalive-policy.js';
import { TunnelSilence } from '../../../../../agent/dataplane/flow/tunnel-silence.js';

const seconds = fc.integer({ min: 1, max: 32_767 });
const policies = fc.record({ idleSeconds: seconds, everySeconds: seconds, probes: fc.integer({ min: 1, max: 127 }) });

describe('how an endpoint is probed that a document gives up', () => {
  it('is as the document says where nothing asks more often', () => {
    const policy = { idleSeconds: 60, everySeconds: 10, probes: 3 };
    assert.deepEqual(probingBy(policy, 60), { idleSeconds: 60, everySeconds: 10, mostProbes: 3 });
    assert.deepEqual(probingBy(policy, Number.POSITIVE_INFINITY), { idleSeconds: 60, everySeconds: 10, mostProbes: 3 });
  });

  it('is as often as an application asks, and given up after the same time', () => {
    const policy = { idleSeconds: 60, everySeconds: 10, probes: 3 };
    assert.deepEqual(probingBy(policy, 5), { idleSeconds: 5, everySeconds: 5, mostProbes: 17 });
    const kernel = { idleSeconds: 7200, everySeconds: 75, probes: 9 };
    assert.deepEqual(probingBy(kernel, 60), { idleSeconds: 60, everySeconds: 62, mostProbes: 127 });
  });

  it('is what the kernel takes, begins when it is wanted, and never gives up much earlier or later', () => {
    fc.assert(
      fc.property(policies, seconds, (policy, ask) => {
        const { idleSeconds, everySeconds, mostProbes } = probingBy(policy, ask);
        assert.equal(idleSeconds, Math.min(policy.idleSeconds, ask));
        assert.ok(everySeconds >= 1 && everySeconds <= 32_767 && mostProbes >= 1 && mostProbes <= 127);
        const [wanted, given] = [policy, { idleSeconds, everySeconds, probes: mostProbes }].map(
          (each) => each.idleSeconds + each.everySeconds * each.probes,
        ) as [number, number];
        // Where 127 pauses of 32767 s are too few, a hundredth is missing.
        assert.ok(given >= wanted * 0.99 && given < wanted + everySeconds, `${given} for ${wanted}`);
      }),
    );
  });
});

describe('a tunnel whose other side is silent', () => {
  it('is asked often enough, and counts as gone after the time of the document', () => {
    const asked: number[] = [];
    const pulse = { unansweredMs: 0, hurry: (everyMs: number) => asked.push(everyMs) };
    const silence = new TunnelSilence(pulse, { idleSeconds: 20, everySeconds: 5, probes: 3 });
    assert.equal(silence.isGone(), false);
    assert.deepEqual([asked, silence.isHurried], [[5000], true]);
    pulse.unansweredMs = 29_999;
    assert.equal(silence.isGone(), false);
    pulse.unansweredMs = 30_000;
    assert.equal(silence.isGone(), true);
  });
});
