import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reconnectDelayMs } from '../../../../shared/bus/reconnect-delay.js';
import { inboxPrefixFor, mayAnswerTo, parseSubject, subjectFor } from '../../../../shared/bus/subjects.js';
import { nodeNamed } from '../../../support/routing/names.js';
import { parseNodeName } from '../../../../shared/routing/names.js';

test('a subject names its node, also when the name has dots, and is read back', () => {
  for (const node of ['n1', 'host-1.rack2.example.net', 'a']) {
    const subject = subjectFor('sign', nodeNamed(node));
    assert.equal(subject.split('.').length, 4);
    assert.deepEqual(parseSubject(subject), { verb: 'sign', node });
    assert.ok(!inboxPrefixFor(nodeNamed(node)).includes('.'));
  }
});

test('names that could widen a subject are no node names', () => {
  for (const name of ['', '*', '>', 'a.*', 'a.>', 'a b', 'A', 'a_b', '.a', 'a.', '-a', 'a\n', 'a'.repeat(254)]) {
    assert.equal(parseNodeName(name), undefined, JSON.stringify(name));
  }
});

test('foreign subjects prove no node', () => {
  for (const subject of [
    '',
    'culvert.v1.sign',
    'culvert.v1.sign.a.b',
    'culvert.v2.sign.a',
    'culvert.v1.burn.a',
    '$KV.x.sign.a',
    'culvert.v1.sign.*',
  ]) {
    assert.equal(parseSubject(subject), undefined, subject);
  }
});

test('an answer may go to the inbox of the node that asks, and nowhere else', () => {
  const subject = subjectFor('sign', nodeNamed('rack.a'));
  assert.ok(mayAnswerTo(`${inboxPrefixFor(nodeNamed('rack.a'))}.x.1`, subject));
  for (const reply of [
    '$KV.culvert_rules.current',
    '$JS.API.STREAM.PURGE.KV_culvert_rules',
    subjectFor('status', nodeNamed('b')),
  ]) {
    assert.equal(mayAnswerTo(reply, subject), false, reply);
    assert.equal(mayAnswerTo(reply, 'some.other.subject'), false, reply);
  }
  assert.equal(mayAnswerTo(`${inboxPrefixFor(nodeNamed('rack.ab'))}.x.1`, subject), false);
  assert.equal(mayAnswerTo(inboxPrefixFor(nodeNamed('rack.a')), subject), false);
  assert.ok(mayAnswerTo('_INBOX.x.1', 'some.other.subject'));
});

test('the delay before a reconnect doubles up to five seconds and half of it is random', () => {
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5, 50].map((attempt) => reconnectDelayMs(attempt, () => 1)),
    [250, 500, 1000, 2000, 4000, 5000, 5000],
  );
  assert.equal(
    reconnectDelayMs(0, () => 0),
    125,
  );
});
