import assert from 'node:assert/strict';
import type { z } from 'zod';
import type { TokenAnswer } from '../../../controller/api/api-types.js';
import type { RunningController } from '../../../controller/app.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import type { Bus } from '../../../shared/bus/bus.js';
import { createUser, type NkeyPair } from '../../../shared/bus/nats-accounts.js';
import { inboxPrefixFor } from '../../../shared/bus/subjects.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { decodeWire, joinResponseSchema, type JoinResponse } from '../../../shared/wire/requests.js';
import { openAnswer } from '../../../shared/wire/sealed-answer.js';
import { sealRequest, type NodeKey } from '../../../shared/wire/sealed-request.js';
import { nodeNamed } from '../routing/names.js';
import { callApi, type Answer } from './controller-fixture.js';

export async function newToken(controller: RunningController, node: string, ttlMs?: number): Promise<string> {
  const body = ttlMs === undefined ? { node } : { node, ttlMs };
  const answer = await callApi(controller, 'POST', '/v1/tokens', { body });
  assert.equal(answer.status, 201, answer.text);
  return (answer.body as TokenAnswer).token;
}

export type Joined = {
  readonly bus: Bus;
  readonly joined: JoinResponse;
  readonly user: NkeyPair;
  readonly nodeKey: NodeKey;
};

/** Asks as an agent does; the answer has to be signed for this request. */
export async function ask<Schema extends z.ZodType>(
  agent: Joined,
  subject: string,
  body: object,
  schema: Schema,
): Promise<z.infer<Schema>> {
  const asked = { subject, request: sealRequest({ subject, body, nodeKey: agent.nodeKey }) };
  const bytes = await agent.bus.request(subject, asked.request, { timeoutMs: 5000 });
  return decodeWire(schema, openAnswer({ asked, bytes, publicKeysPem: agent.joined.signingPublicKeys }));
}

export async function join(
  controller: RunningController,
  token: string,
  node: string,
  user: NkeyPair = createUser(),
  request?: { readonly csrPem: string },
): Promise<Answer> {
  const { csrPem } = request ?? (await createCsr({ commonName: node }));
  const body = { token, node, csrPem, natsUserPublicKey: user.publicKey, version: 'test' };
  return callApi(controller, 'POST', '/v1/join', { body, token: null });
}

/** Nodes with an agent that has joined and says nothing. */
export async function joinNodes(controller: RunningController, ...nodes: readonly string[]): Promise<void> {
  for (const node of nodes) {
    const answer = await join(controller, await newToken(controller, node), node);
    assert.equal(answer.status, 200, answer.text);
  }
}

/** An agent that has joined: its bus and what it got. `inboxPrefix`: where it asks for answers. */
export async function joinedBus(
  controller: RunningController,
  node: string,
  inboxPrefix = inboxPrefixFor(nodeNamed(node)),
): Promise<AsyncDisposable & Joined> {
  const user = createUser();
  const request = await createCsr({ commonName: node });
  const answer = await join(controller, await newToken(controller, node), node, user, request);
  assert.equal(answer.status, 200, answer.text);
  const joined = joinResponseSchema.parse(answer.body);
  const bus = await connectBus({
    servers: joined.natsServers,
    tls: {
      caPem: joined.natsCaPem ?? joined.rootsPem,
      ...(joined.natsServerName === null ? {} : { servername: joined.natsServerName }),
    },
    auth: { kind: 'jwt', jwt: joined.natsJwt, seed: user.seed },
    name: node,
    inboxPrefix,
    signal: new AbortController().signal,
  });
  const nodeKey = { nodeCertificatePem: joined.nodeCertificatePem, nodeKeyPem: request.privateKeyPem };
  return { bus, joined, user, nodeKey, [Symbol.asyncDispose]: () => bus.close() };
}
