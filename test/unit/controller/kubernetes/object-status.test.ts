import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  differenceOf,
  statusOf,
  statusPatch,
  writtenStatus,
  type Standing,
} from '../../../../controller/kubernetes/object-status.js';

const standing: Standing = {
  generation: 3,
  accepted: { status: 'True', reason: 'Accepted', message: 'it is among the rules' },
  revision: 12,
  earlierRevision: null,
  agents: { enforcing: 3, all: 3 },
  warnings: [],
};

/** What the API server has after a status was written. */
function written(standing: Standing, now = '2026-01-01T00:00:00Z', before = {}) {
  const { status } = statusPatch(statusOf(standing), writtenStatus(before), now) as { status: object };
  return writtenStatus(status);
}

function inForce(o: Partial<Standing>): string {
  const { conditions } = statusOf({ ...standing, ...o });
  const found = conditions.find(({ type }) => type === 'InForce');
  return `${found?.status} ${found?.reason}: ${found?.message}`;
}

test('InForce says on how many agents, or why on none', () => {
  assert.equal(inForce({}), 'True Enforced: on 3 of 3 agents');
  assert.equal(inForce({ agents: { enforcing: 2, all: 3 } }), 'False Pending: on 2 of 3 agents');
  assert.equal(inForce({ agents: { enforcing: 0, all: 0 } }), 'False NoAgents: no agent has joined the mesh');
  assert.equal(inForce({ revision: null }), 'False NotAccepted: it is not among the rules');
  assert.equal(
    inForce({ revision: null, earlierRevision: 9 }),
    'False EarlierVersion: its last good version is in force, as of revision 9',
  );
});

test('what was written differs in nothing, and a change of the meaning is told from one of a number', () => {
  const wanted = statusOf(standing);
  const present = written(standing);
  assert.equal(differenceOf(wanted, present), 'none');
  assert.equal(differenceOf(wanted, {}), 'meaning');
  const fewer = statusOf({ ...standing, agents: { enforcing: 4, all: 4 } });
  assert.equal(differenceOf(fewer, present), 'numbers');
  for (const change of [
    { agents: { enforcing: 2, all: 3 } },
    { generation: 4 },
    { revision: 13 },
    { warnings: ['it never decides'] },
    { accepted: { ...standing.accepted, message: 'otherwise' } },
  ]) {
    assert.equal(differenceOf(statusOf({ ...standing, ...change }), present), 'meaning', JSON.stringify(change));
  }
});

test('a condition keeps its time as long as its status stays', () => {
  const before = written(standing, '2026-01-01T00:00:00Z');
  const after = written({ ...standing, agents: { enforcing: 2, all: 3 } }, '2026-02-02T00:00:00Z', before);
  assert.deepEqual(
    after.conditions?.map(({ type, lastTransitionTime }) => `${type} ${lastTransitionTime.slice(0, 7)}`),
    ['Accepted 2026-01', 'InForce 2026-02', 'Warned 2026-01'],
  );
});

test('a status that another program wrote is written again, whatever it is', () => {
  for (const odd of [null, 'x', 7, { conditions: 'none' }, { conditions: [{ type: 1 }] }]) {
    assert.equal(differenceOf(statusOf(standing), writtenStatus(odd)), 'meaning');
  }
});

test('a message has a bound', () => {
  const { conditions } = statusOf({ ...standing, warnings: ['x'.repeat(5000)] });
  assert.equal(conditions.find(({ type }) => type === 'Warned')?.message.length, 1024);
});
