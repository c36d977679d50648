import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectionsThatFit, filesHint, filesProblem } from '../../../../agent/config/open-files.js';

const limits = { maxConnectionsPerWorkload: 20_000 };

test('an agent that may open few files says for how many connections that is, and how many it needs', () => {
  assert.match(
    filesProblem(limits, 1024) ?? '',
    /may open 1024 files.* 256 connections.* one workload alone may have 20000 /,
  );
  assert.match(filesHint(limits), /to 40512 or more.*LimitNOFILE=/);
  assert.match(filesProblem(limits, 100) ?? '', / 0 connections/);
});

test('it does not complain where the limit is met in no ordinary use, or workloads may have no more', () => {
  assert.equal(filesProblem(limits, 20_000), null);
  assert.equal(filesProblem(limits, Number.POSITIVE_INFINITY), null);
  assert.equal(filesProblem({ maxConnectionsPerWorkload: 200 }, 1024), null);
  assert.equal(connectionsThatFit(20_000), 9744);
});
