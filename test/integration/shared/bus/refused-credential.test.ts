import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agentPermissions } from '../../../../controller/nats/agent-permissions.js';
import { CulvertError, describeError } from '../../../../shared/errors.js';
import type { ConnectBusOptions } from '../../../../shared/bus/connect-bus.js';
import { createUser, mintUserJwt } from '../../../../shared/bus/nats-accounts.js';
import { Inbox } from '../../../support/bus/bus-deadline.js';
import { NatsFixture } from '../../../support/bus/bus-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';

type Credential = { readonly publicKey: string; readonly auth: ConnectBusOptions['auth'] };

function credentialOn(nats: NatsFixture, expiresAtMs: number | null = null): Credential {
  const { publicKey, seed } = createUser();
  const { account } = nats.server;
  const permissions = agentPermissions(nodeNamed('node1'));
  const jwt = mintUserJwt({ account, userPublicKey: publicKey, name: 'node1', permissions, expiresAtMs });
  return { publicKey, auth: { kind: 'jwt', jwt, seed } };
}

function isRefused(words: string): (error: unknown) => boolean {
  return (error) =>
    error instanceof CulvertError &&
    error.code === 'BUS_REFUSED' &&
    error.message.endsWith(`nats-server refuses the credential: ${words}`) &&
    /revoked .* or has expired.*culvert token create --node NODE.*culvert-agent join/.test(describeError(error));
}

const isViolation = isRefused('Authorization Violation');

function isUnreachable(error: unknown): boolean {
  return error instanceof CulvertError && error.code === 'BUS_DISCONNECTED';
}

test('a credential that is revoked while it is connected is named as refused, and so is a server that goes away then', async () => {
  await using nats = await NatsFixture.start();
  const { publicKey, auth } = credentialOn(nats);
  const problems = new Inbox<unknown>();
  const statuses = new Inbox<string>();
  const bus = await nats.agent('node1', { auth, onProblem: problems.push });
  bus.onStatus(statuses.push);
  await nats.server.revoke(new Map([[publicKey, Date.now()]]));
  await statuses.until('the loss', (seen) => seen.includes('disconnected'));
  await problems.until('three refusals', (seen) => seen.filter(isViolation).length >= 3);
  assert.equal(bus.status, 'disconnected');
  assert.deepEqual(
    nats.logLines.filter((line) => line.includes('TLS handshake error')),
    [],
    'no other connection asks what the server has said',
  );
  await nats.server.stop();
  await problems.until('the server is away', (seen) => isUnreachable(seen.at(-1)));
});

test('a revoked credential is named as refused at the first connection, in the same words', async () => {
  await using nats = await NatsFixture.start();
  const { publicKey, auth } = credentialOn(nats);
  await nats.server.revoke(new Map([[publicKey, Date.now()]]));
  const problems = new Inbox<unknown>();
  const stop = new AbortController();
  const connecting = nats.agent('node1', { auth, onProblem: problems.push, signal: stop.signal });
  await problems.until('a refusal', (seen) => seen.some(isViolation));
  stop.abort();
  await assert.rejects(connecting, { name: 'AbortError' });
});

test('a credential that ends while it is connected is named as expired', async () => {
  await using nats = await NatsFixture.start();
  const { auth } = credentialOn(nats, Date.now() + 4000);
  const problems = new Inbox<unknown>();
  await nats.agent('node1', { auth, onProblem: problems.push });
  await problems.until('the expiry', (seen) => seen.some(isRefused('User Authentication Expired')));
  await problems.until('a refusal', (seen) => seen.some(isViolation));
});
