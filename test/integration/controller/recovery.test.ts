import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type { RunningController } from '../../../controller/app.js';
import type {
  ApplyAnswer,
  ReadyAnswer,
  ResourceList,
  StatusAnswer,
  TokenAnswer,
} from '../../../controller/api/api-types.js';
import { startEmbeddedNats } from '../../../controller/nats/embedded-nats.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import { createUser } from '../../../shared/bus/nats-accounts.js';
import { buckets, inboxPrefixFor, rulesPointerKey } from '../../../shared/bus/subjects.js';
import { createRootCa } from '../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { issueServerCertificate } from '../../../controller/ca/x509/mesh-certificates.js';
import { joinResponseSchema, type JoinResponse } from '../../../shared/wire/requests.js';
import { rulesPointerSchema } from '../../../shared/wire/rules-pointer.js';
import { openRegistryEntry, openSnapshot } from '../../../shared/wire/signed.js';
import {
  apply,
  callApi,
  documents,
  eventually,
  ruleDocument,
  silentLog,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { ownPort } from '../../support/own-port.js';
import { publishedRegistry } from '../../support/controller/published-registry.js';
import { nodeNamed } from '../../support/routing/names.js';

function rule(name: string): string {
  const spec = { tier: 'team', action: 'allow', from: [{ namespace: 'shop' }], to: [{ workload: 'shop/db' }] };
  return ruleDocument(name, spec);
}

const two = documents(
  rule('open'),
  workloadDocument('shop', 'api', { ip: '198.18.1.1', node: 'host-a' }),
  workloadDocument('shop', 'db', { ip: '198.18.1.2', node: 'host-b' }),
);

/** What an agent of host-a reads: the revision in force and the registered names. Joins on the first call. */
async function agentView(controller: RunningController) {
  const user = createUser();
  const created = await callApi(controller, 'POST', '/v1/tokens', { body: { node: 'host-a' } });
  const { csrPem } = await createCsr({ commonName: 'host-a' });
  const answer = await callApi(controller, 'POST', '/v1/join', {
    token: null,
    body: {
      token: (created.body as TokenAnswer).token,
      node: 'host-a',
      csrPem,
      natsUserPublicKey: user.publicKey,
      version: 'test',
    },
  });
  assert.equal(answer.status, 200, answer.text);
  const joined: JoinResponse = joinResponseSchema.parse(answer.body);
  await using bus = await connectBus({
    servers: joined.natsServers,
    tls: {
      caPem: joined.natsCaPem ?? joined.rootsPem,
      ...(joined.natsServerName === null ? {} : { servername: joined.natsServerName }),
    },
    auth: { kind: 'jwt', jwt: joined.natsJwt, seed: user.seed },
    name: 'host-a',
    inboxPrefix: inboxPrefixFor(nodeNamed('host-a')),
    signal: new AbortController().signal,
  });
  const rules = await bus.bucket(buckets.rules);
  const pointerText = Buffer.from((await rules.get(rulesPointerKey))?.value ?? []).toString('utf8');
  const pointer = rulesPointerSchema.parse(JSON.parse(pointerText));
  const publicKeysPem = joined.signingPublicKeys;
  const snapshot = openSnapshot({ bytes: (await rules.get(pointer.key))?.value ?? new Uint8Array(), publicKeysPem });
  const stored = await listRegistry(bus);
  const { listed, entries } = publishedRegistry(stored, publicKeysPem);
  assert.deepEqual([...listed.keys()].sort(), entries.map(({ key }) => key).sort());
  const names = entries.map(({ key, value }) => openRegistryEntry({ bytes: value, key, publicKeysPem }).entry.name);
  return { revision: snapshot.revision, names: names.sort(), joined };
}

/** As agents do: through a watch, which is all that their permissions allow. */
async function listRegistry(bus: Awaited<ReturnType<typeof connectBus>>) {
  const entries: { key: string; value: Uint8Array }[] = [];
  const bucket = await bus.bucket(buckets.registry);
  const abort = new AbortController();
  const ready = new Promise<void>((onReady, onProblem) => {
    const watch = bucket.watch({
      onEntry: (change) => {
        if (change.operation === 'put') entries.push({ key: change.key, value: change.value });
      },
      onReady,
      onProblem,
      signal: abort.signal,
    });
    abort.signal.addEventListener('abort', () => void watch.closed);
  });
  await ready;
  abort.abort();
  return entries;
}

async function killNats(stateDir: string): Promise<number> {
  const pid = Number(await readFile(path.join(stateDir, 'nats/nats-server.pid'), 'utf8'));
  process.kill(pid, 'SIGKILL');
  return pid;
}

test('a restarted controller goes on where it was', async () => {
  await using directory = await temporaryDirectory();
  let token: string;
  {
    await using controller = await startedController(directory.path);
    await apply(controller, two);
    token = controller.adminToken;
  }
  await using controller = await startedController(directory.path);
  assert.equal(controller.adminToken, token);
  const { revision, names } = await agentView(controller);
  assert.deepEqual([revision, names], [2, ['api', 'db']]);
  const again = (await apply(controller, two)).body as ApplyAnswer;
  assert.deepEqual([again.revision, again.inventory], [2, { sequence: 2, changes: 0 }]);
});

test('a wiped store is rebuilt from the journal and the inventory, with the same revision and sequence', async () => {
  await using directory = await temporaryDirectory();
  {
    await using controller = await startedController(directory.path);
    await apply(controller, two);
  }
  await rm(path.join(directory.path, 'nats/store'), { recursive: true });
  await using controller = await startedController(directory.path);
  const { revision, names } = await agentView(controller);
  assert.deepEqual([revision, names], [2, ['api', 'db']]);
});

test('a nats-server that is killed and comes back with an empty store is filled again', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await apply(controller, two);
  await rm(path.join(directory.path, 'nats/store'), { recursive: true });
  await killNats(directory.path);
  await eventually('NATS is noticed to be away', async () => {
    const { body } = await callApi(controller, 'GET', '/readyz', { token: null });
    return (body as ReadyAnswer).isReady ? undefined : true;
  });
  const applied = await eventually('changes are possible again', async () => {
    const answer = await apply(controller, workloadDocument('shop', 'late', { ip: '198.18.1.3' }));
    return answer.status === 200 ? (answer.body as ApplyAnswer) : undefined;
  });
  assert.deepEqual([applied.revision, applied.inventory.sequence], [2, 3]);
  const { revision, names } = await agentView(controller);
  assert.deepEqual([revision, names], [2, ['api', 'db', 'late']]);
});

test('a lost journal is taken over from NATS, and a damaged one is moved aside first', async () => {
  await using directory = await temporaryDirectory();
  const journal = path.join(directory.path, 'journal.log');
  {
    await using controller = await startedController(directory.path);
    await apply(controller, two);
    await apply(controller, workloadDocument('shop', 'third', { ip: '198.18.1.3' }));
  }
  await rm(journal);
  {
    await using controller = await startedController(directory.path);
    const { items, revision } = (await callApi(controller, 'GET', '/v1/resources/Workload')).body as ResourceList;
    assert.deepEqual([revision, items.length], [2, 3]);
  }
  const text = await readFile(journal, 'utf8');
  await writeFile(journal, `${text.replace('"open"', '"forged"')}${text}`);
  await using controller = await startedController(directory.path);
  const { revision, names } = await agentView(controller);
  assert.deepEqual([revision, names], [2, ['api', 'db', 'third']]);
  const status = async () => (await callApi(controller, 'GET', '/v1/status')).body as StatusAnswer;
  assert.match((await status()).warnings[0]?.message ?? '', /^journal\.log\.corrupt-\d+ .* was damaged/);
  for (const name of await readdir(directory.path)) {
    if (name.startsWith('journal.log.corrupt-')) await rm(path.join(directory.path, name));
  }
  assert.deepEqual((await status()).warnings, []);
});

test('a state directory from a backup learns from NATS what it missed, and never goes back', async () => {
  await using directory = await temporaryDirectory();
  const files = ['journal.log', 'inventory.log'].map((name) => path.join(directory.path, name));
  {
    await using controller = await startedController(directory.path);
    await apply(controller, two);
    for (const file of files) await writeFile(`${file}.backup`, await readFile(file));
    await apply(controller, documents(workloadDocument('shop', 'third', { ip: '198.18.1.3' }), rule('later')));
  }
  for (const file of files) await rename(`${file}.backup`, file);
  await using controller = await startedController(directory.path);
  assert.deepEqual([controller.store.release.state.revision, controller.store.inventory.sequence], [3, 3]);
  const applied = await apply(controller, workloadDocument('shop', 'fourth', { ip: '198.18.1.4' }));
  assert.equal((applied.body as ApplyAnswer).inventory.sequence, 4);
  assert.deepEqual((await agentView(controller)).names, ['api', 'db', 'fourth', 'third']);
});

test('one state directory serves one controller', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  await assert.rejects(startedController(directory.path), { code: 'STATE_LOCKED' });
  assert.equal((await callApi(controller, 'GET', '/healthz')).status, 200);
});

test('the trust domain cannot change after the first start', async () => {
  await using directory = await temporaryDirectory();
  {
    await using controller = await startedController(directory.path);
    assert.ok(controller.port > 0);
  }
  const started = startedController(directory.path, { changes: { trustDomain: 'other.mesh' } });
  await assert.rejects(started, { code: 'CONFIG_INVALID' });
});

test('with servers of its own operator the controller reads without them, refuses changes, and recovers', async () => {
  await using directory = await temporaryDirectory();
  const ca = await createRootCa({ trustDomain: 'nats.operator' });
  const { csrPem, privateKeyPem } = await createCsr({ commonName: 'nats' });
  const { chainPem } = await issueServerCertificate({
    issuer: ca,
    csrPem,
    dnsNames: [],
    ipAddresses: ['127.0.0.1'],
    ttlMs: 3_600_000,
  });
  const start = (port: number) =>
    startEmbeddedNats({
      stateDir: path.join(directory.path, 'operator'),
      listen: { host: '127.0.0.1', port },
      tls: { chainPem, privateKeyPem },
      log: silentLog,
      onRefused: () => undefined,
    });
  let server = await start(await ownPort());
  try {
    const seedFile = path.join(directory.path, 'account.seed');
    const caFile = path.join(directory.path, 'nats-ca.pem');
    await writeFile(seedFile, `${server.account.seed}\n`);
    await writeFile(caFile, ca.certificatePem);
    await using controller = await startedController(path.join(directory.path, 'controller'), {
      changes: {
        nats: `tls://127.0.0.1:${server.port}`,
        natsAccountSeedFile: seedFile,
        natsCaFile: caFile,
      },
    });
    assert.equal((await apply(controller, two)).status, 200);
    const { joined, names } = await agentView(controller);
    assert.deepEqual(names, ['api', 'db']);
    assert.equal(joined.natsCaPem, ca.certificatePem);

    await server.stop();
    const refused = await apply(controller, workloadDocument('shop', 'late', { ip: '198.18.1.3' }));
    assert.equal(refused.status, 503, refused.text);
    assert.equal((refused.body as { code: string }).code, 'STORE_UNAVAILABLE');
    assert.notEqual((refused.body as { hint: string | null }).hint, null);
    const { items } = (await callApi(controller, 'GET', '/v1/resources/Workload')).body as ResourceList;
    assert.equal(items.length, 2);
    assert.equal(((await callApi(controller, 'GET', '/v1/status')).body as StatusAnswer).inventorySequence, 2);

    server = await start(server.port);
    const applied = await eventually('changes are possible again', async () => {
      const answer = await apply(controller, workloadDocument('shop', 'late', { ip: '198.18.1.3' }));
      return answer.status === 200 ? (answer.body as ApplyAnswer) : undefined;
    });
    assert.deepEqual([applied.revision, applied.inventory.sequence], [2, 3]);
  } finally {
    await server.stop();
  }
});

test('what nats-server refuses while the controller is still starting is counted, and does not end the start', async () => {
  await using directory = await temporaryDirectory();
  const bin = path.join(directory.path, 'bin');
  await mkdir(bin);
  const { PATH = '' } = process.env;
  // The first log line of this server is a rejected connection.
  const script = `#!/bin/sh
PATH='${PATH}'
[ "$1" = --config ] && echo '[1] [ERR] 198.18.0.9:4 - cid:1 - authentication error' >&2
exec nats-server "$@"
`;
  await writeFile(path.join(bin, 'nats-server'), script, { mode: 0o755 });
  process.env['PATH'] = `${bin}${path.delimiter}${PATH}`;
  try {
    await using controller = await startedController(path.join(directory.path, 'state'));
    const { text } = await callApi(controller, 'GET', '/metrics', { token: null });
    assert.match(text, /^culvert_controller_nats_refused_total\{operation="connect"\} 1$/m);
  } finally {
    process.env['PATH'] = PATH;
  }
});
