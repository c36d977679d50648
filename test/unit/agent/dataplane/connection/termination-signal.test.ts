import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { ConnectionCut, TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';

const denied = new ConnectionCut({ reason: 'POLICY_TERMINATED', rule: { kind: 'SegmentationRule', name: 'no' } });

describe('a signal that cuts a connection', () => {
  it('calls everybody who listens once, in their order, and knows its cut by then', () => {
    const signal = new TerminationSignal();
    const called: string[] = [];
    for (const name of ['first', 'second']) signal.onCut(() => called.push(`${name} ${signal.cut?.rule?.name}`));
    assert.equal(signal.cut, null);
    signal.raise(denied);
    signal.raise(new ConnectionCut({ reason: 'DRAIN' }));
    assert.deepEqual(called, ['first no', 'second no']);
    assert.equal(signal.cut, denied);
  });

  it('calls no listener that has stopped listening', () => {
    const signal = new TerminationSignal();
    const called: string[] = [];
    const onCut = (): void => void called.push('gone');
    signal.onCut(onCut);
    signal.onCut(() => called.push('there'));
    signal.offCut(onCut);
    signal.raise(denied);
    assert.deepEqual(called, ['there']);
  });

  it('calls all that listened when it was raised, though one stops the other meanwhile', () => {
    const signal = new TerminationSignal();
    const called: string[] = [];
    const second = (): void => void called.push('second');
    signal.onCut(() => signal.offCut(second));
    signal.onCut(second);
    signal.raise(denied);
    assert.deepEqual(called, ['second']);
  });
});
