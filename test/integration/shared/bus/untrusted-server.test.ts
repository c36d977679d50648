import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createIssuingCa, createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { CulvertError } from '../../../../shared/errors.js';
import { Inbox } from '../../../support/bus/bus-deadline.js';
import { NatsFixture } from '../../../support/bus/bus-fixture.js';

const trustDomain = 'mesh.test';

function isUntrusted(error: unknown): boolean {
  return error instanceof CulvertError && error.code === 'BUS_UNTRUSTED' && /TLS: .*certificate/.test(error.message);
}

test('a server whose root is unknown is named as that, at the first connection', async () => {
  await using nats = await NatsFixture.start();
  const foreign = await createRootCa({ trustDomain });
  const problems = new Inbox<unknown>();
  const stop = new AbortController();
  const connecting = nats.controller({
    tls: { caPem: foreign.rootPem },
    signal: stop.signal,
    onProblem: problems.push,
  });
  connecting.catch(() => undefined);
  await problems.until('the reason', (seen) => seen.some(isUntrusted));
  stop.abort();
  await assert.rejects(connecting);
});

test('a server that came back under another root is named as that, and reached once that root is trusted', async () => {
  await using nats = await NatsFixture.start();
  const { port } = nats.server;
  let caPem = nats.ca.root.rootPem;
  const problems = new Inbox<unknown>();
  const bus = await nats.controller({ tls: { caPem: () => caPem }, onProblem: problems.push });
  const statuses = new Inbox<string>();
  bus.onStatus(statuses.push);
  await nats.server.stop();
  const root = await createRootCa({ trustDomain });
  nats.ca.root = root;
  nats.ca.issuing = await createIssuingCa({ root, trustDomain });
  await nats.startServer(port);
  await problems.until('the reason', (seen) => seen.some(isUntrusted));
  assert.equal(bus.status, 'disconnected');
  caPem = root.rootPem;
  await statuses.until('connected again', (seen) => seen.at(-1) === 'connected');
});
