import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { growthExponents } from '../../bench/growth.js';
import { sizesOf } from '../../bench/scale-command.js';
import { bytesPerWorkload, bytesPerWorkloadAndWorker } from '../../bench/scale-workloads.js';

describe('exponents of growth', () => {
  const exponents = (points: readonly (readonly [number, number])[]): (number | null)[] =>
    growthExponents(points.map(([size, cost]) => ({ size, cost })));

  it('tell constant, linear and quadratic growth, and show where it bends', () => {
    const found = exponents([
      [10, 5],
      [100, 5],
      [1000, 50],
      [10_000, 5000],
    ]);
    assert.deepEqual(
      found.map((exponent) => Math.round((exponent ?? Number.NaN) * 100) / 100),
      [0, 1, 2],
    );
  });

  it('are not derived from a cost of 0, nor of one size alone', () => {
    assert.deepEqual(
      exponents([
        [10, 0],
        [100, 5],
      ]),
      [null],
    );
    assert.deepEqual(exponents([[10, 1]]), []);
  });
});

describe('the memory of a workload', () => {
  const size = (workloads: number, one: number, two: number) => ({
    workloads,
    startMs: 1,
    change: { bytesToAgent: 1, bytesToDisk: 1, agentCpuMs: 1, controllerCpuMs: 1 },
    startCpuMs: 1,
    churn: null,
    applyMs: 1,
    rssBytes: { 1: one, 2: two },
  });

  it('is what grows from the least size to the greatest, in the agent and in its second worker', () => {
    const sizes = [size(1000, 100_000, 130_000), size(5000, 1, 1), size(11_000, 400_000, 530_000)];
    assert.equal(bytesPerWorkload(sizes), 30);
    assert.equal(bytesPerWorkloadAndWorker(sizes), 10);
  });

  it('is unknown with one size', () => {
    assert.equal(bytesPerWorkload([size(1000, 1, 1)]), null);
    assert.equal(bytesPerWorkloadAndWorker([]), null);
  });
});

describe('sizes on the command line', () => {
  it('rise, or are none', () => {
    assert.deepEqual(sizesOf('10,100,500', '--agents'), [10, 100, 500]);
    assert.deepEqual(sizesOf('0', '--agents'), []);
    for (const text of ['', '10,10', '100,10', '1.5', 'many', '0,5']) {
      assert.throws(() => sizesOf(text, '--agents'), { code: 'BAD_OPTION' });
    }
  });
});
