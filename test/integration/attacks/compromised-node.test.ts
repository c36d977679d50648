import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunningController } from '../../../controller/app.js';
import { subjectFor } from '../../../shared/bus/subjects.js';
import { createLog } from '../../../shared/log.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { signResponseSchema } from '../../../shared/wire/requests.js';
import {
  apply,
  callApi,
  documents,
  eventually,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { ask, join, joinedBus, newToken, type Joined } from '../../support/controller/joined-agent.js';
import { nodeNamed } from '../../support/routing/names.js';

async function metric(controller: RunningController, line: string): Promise<number> {
  const { text } = await callApi(controller, 'GET', '/metrics', { token: null });
  const found = text.split('\n').find((candidate) => candidate.startsWith(`${line} `));
  return Number(found?.slice(line.length + 1) ?? 0);
}

/** A whole batch of identities that are registered nowhere. */
async function signRequest(size: number) {
  const identity = formatSpiffeId({ trustDomain: 'culvert.local', namespace: 'billing', serviceAccount: 'api' });
  const { csrPem } = await createCsr({ identity });
  return { requests: Array.from({ length: size }, () => ({ identity, csrPem })) };
}

const signed = async (agent: Joined, node: string): Promise<boolean> => {
  const { certificates } = await ask(
    agent,
    subjectFor('sign', nodeNamed(node)),
    await signRequest(1),
    signResponseSchema,
  );
  return certificates.some((certificate) => 'chainPem' in certificate);
};

test('a node that floods the controller is dropped above its rates, and others get their certificates meanwhile', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const placed = documents(workloadDocument('billing', 'api', { ip: '198.18.1.1', node: 'host-b' }));
  assert.equal((await apply(controller, placed)).status, 200);
  await using evil = await joinedBus(controller, 'host-a');
  await using other = await joinedBus(controller, 'host-b');
  const flood = 3000;
  for (const verb of ['sign', 'renew', 'status', 'recent'] as const) {
    const subject = subjectFor(verb, nodeNamed('host-a'));
    for (let sent = 0; sent < flood; sent++) evil.bus.publish(subject, Buffer.from('{}'));
  }
  assert.ok(await signed(other, 'host-b'));
  await eventually('the flood has been dropped', async () =>
    (await metric(controller, 'culvert_controller_bad_agent_requests_total{verb="recent"}')) >= flood
      ? true
      : undefined,
  );
  const before = await metric(controller, 'culvert_controller_bad_agent_requests_total{verb="recent"}');
  const asked = Array.from({ length: 300 }, () =>
    evil.bus.request(subjectFor('recent', nodeNamed('host-a')), Buffer.from('{}'), { timeoutMs: 2000 }),
  );
  const answered = (await Promise.allSettled(asked)).filter(({ status }) => status === 'fulfilled').length;
  assert.ok(answered < 100, `${answered} answers; ${before} were refused or dropped before`);
  assert.ok(await signed(other, 'host-b'));
});

test('messages that ask for answers elsewhere are under the same rates, and cost one line', async () => {
  await using directory = await temporaryDirectory();
  const lines: string[] = [];
  const log = createLog({ name: 'test', level: 'warn', stream: { write: (line: string) => void lines.push(line) } });
  await using controller = await startedController(directory.path, { log });
  await using evil = await joinedBus(controller, 'host-a', '_INBOX_culvert_other');
  const flood = 3000;
  const subject = subjectFor('recent', nodeNamed('host-a'));
  const asked = Promise.allSettled(
    Array.from({ length: flood }, () => evil.bus.request(subject, Buffer.from('{}'), { timeoutMs: 1000 })),
  );
  await eventually('the flood has been dropped', async () =>
    (await metric(controller, 'culvert_controller_bad_agent_requests_total{verb="recent"}')) >= flood
      ? true
      : undefined,
  );
  await asked;
  assert.ok(lines.length < 10, `${lines.length} lines`);
});

test('a stranger with a bad token costs no signature, and a host with a good one cannot join without end', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const broken = { csrPem: 'no request' };
  // The refusal names the token: the request was not looked at.
  const stranger = await join(
    controller,
    `culvert1.${'0'.repeat(12)}.${'0'.repeat(48)}.${'0'.repeat(64)}`,
    'host-a',
    undefined,
    broken,
  );
  assert.deepEqual([stranger.status, (stranger.body as { code: string }).code], [401, 'TOKEN_UNKNOWN']);

  const token = await newToken(controller, 'host-a');
  const codes: string[] = [];
  for (let round = 0; round < 25; round++) {
    codes.push(((await join(controller, token, 'host-a', undefined, broken)).body as { code: string }).code);
  }
  assert.deepEqual([codes[0], codes.at(-1)], ['CSR_INVALID', 'TOO_MANY_JOINS']);
  const elsewhere = await newToken(controller, 'host-b');
  assert.equal((await join(controller, elsewhere, 'host-b')).status, 200, 'others join');
});
