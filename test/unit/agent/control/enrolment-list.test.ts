import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { EnrolmentFollower } from '../../../../agent/control/followers/enrolment-follower.js';
import { EnrolmentList } from '../../../../agent/control/followers/enrolment-list.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { encodeEnrolmentNotice, sealNodeEnrolment } from '../../../../shared/wire/node-enrolment.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';

const key = generateSigningKey();
const node = nodeNamed('node1');

function sealed(version: number, of = node, signer = key): Uint8Array {
  const enrolment = { version, namespaces: ['shop'], outside: [] };
  return sealNodeEnrolment({ node: of, enrolment, privateKeyPem: signer.privateKey });
}

function notice(version: number): Uint8Array {
  return encodeEnrolmentNotice({ version, digest: '' });
}

/** An agent that asks, and what the controller answers. */
function asking() {
  const abort = new AbortController();
  const follower = new EnrolmentFollower({
    node,
    directory: { enrolment: { write: async () => undefined } as never },
    inCharge: async () => undefined,
    log: silentLog,
    onWriteFailed: () => undefined,
  });
  const state = { answers: [] as (Uint8Array | Error | null)[], asked: 0, problems: 0 };
  const list = new EnrolmentList({
    enrolment: follower,
    ask: async () => {
      state.asked++;
      const answer = state.answers.shift() ?? null;
      if (answer instanceof Error) throw answer;
      return answer;
    },
    publicKeysPem: () => [key.publicKey],
    onProblem: () => state.problems++,
    signal: abort.signal,
    retry: { firstMs: 5, longestMs: 20 },
  });
  const version = (): number => follower.current?.version ?? 0;
  return { list, state, version, [Symbol.dispose]: () => abort.abort() };
}

test('a notice makes the agent ask until it has the list, and one of a list that it has does not', async () => {
  using agent = asking();
  agent.state.answers.push(new Error('no controller'), null, sealed(6), sealed(7));
  agent.list.onNotice(notice(7));
  agent.list.onNotice(notice(7));
  await eventually('it has it', async () => agent.version() === 7 || undefined);
  assert.deepEqual([agent.state.asked, agent.state.problems], [4, 1]);
  agent.list.onNotice(notice(7));
  agent.list.onNotice(notice(3));
  await delay(30);
  assert.equal(agent.state.asked, 4);
});

test('the list of another node, or of another signer, is refused', async () => {
  using agent = asking();
  agent.state.answers.push(sealed(7, nodeNamed('node2')), sealed(7, node, generateSigningKey()), sealed(7));
  agent.list.onNotice(notice(7));
  await eventually('it has its own', async () => agent.version() === 7 || undefined);
  assert.equal(agent.state.asked, 3);
});

test('a list that a controller of the build before has in place of a notice is taken', () => {
  using agent = asking();
  agent.list.onNotice(sealed(5));
  assert.deepEqual([agent.version(), agent.state.asked], [5, 0]);
});
