import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Rejoining } from '../../../../agent/control/join/rejoining.js';
import { joinOnce } from '../../../../agent/control/join/membership.js';
import type { NodeCredentials } from '../../../../agent/control/credentials/node-credentials.js';
import { StateDirectory } from '../../../../agent/control/state/state-directory.js';
import type { TokenAnswer } from '../../../../controller/api/api-types.js';
import type { RunningController } from '../../../../controller/app.js';
import { createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import {
  callApi,
  eventually,
  silentLog,
  startedController,
  temporaryDirectory,
} from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';
import { nodeNamed } from '../../../support/routing/names.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { timeoutSignal } from '../../../../shared/timeout-signal.js';

let server: FakeApiServer;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let controller: RunningController;

before(async () => {
  server = await FakeApiServer.start();
  directory = await temporaryDirectory();
  controller = await startedController(path.join(directory.path, 'controller'), {
    changes: changesFor(server),
  });
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

/** Settings of a controller in the cluster of an API server. */
const changesFor = (cluster: FakeApiServer) => ({
  kubernetesApi: cluster.url.origin,
  kubernetesCaFile: cluster.caFile,
  kubernetesTokenFile: cluster.tokenFile,
});

/** A token that the API server knows; `status`: other than that of an agent on n1. */
function tokenOf(name: string, status: object = {}, at = server): string {
  const part = Buffer.from(JSON.stringify({ alg: 'RS256', name })).toString('base64url');
  const token = `${part}.${part}.c2lnbmF0dXJl`;
  at.reviews.set(token, {
    authenticated: true,
    audiences: ['culvert'],
    user: {
      username: 'system:serviceaccount:culvert-system:culvert-agent',
      extra: { 'authentication.kubernetes.io/node-name': ['n1'] },
    },
    ...status,
  });
  return token;
}

function agentOn(node: string): object {
  const username = 'system:serviceaccount:culvert-system:culvert-agent';
  return { user: { username, extra: { 'authentication.kubernetes.io/node-name': [node] } } };
}

let count = 0;
type How = { node?: string; caPem?: string | null; at?: Pick<typeof controller, 'url' | 'caPem'> };
async function join(token: string, o: How = {}): Promise<NodeCredentials> {
  const { node = 'n1', at = controller, caPem = at.caPem } = o;
  const state = path.join(directory.path, `agent-${++count}`);
  const controllerCaFile = caPem === null ? null : `${state}.ca`;
  if (controllerCaFile !== null) await writeFile(controllerCaFile, caPem ?? '');
  return joinOnce({
    settings: { node: nodeNamed(node), controllerUrl: at.url, token, tokenFile: null, controllerCaFile },
    directory: new StateDirectory({ path: state }),
    version: 'test',
    log: silentLog,
    signal: timeoutSignal(30_000),
  });
}

test('the token of an agent’s service account makes its node a member, again and again', async () => {
  const token = tokenOf('agent');
  assert.equal((await join(token)).node, 'n1');
  assert.equal((await join(token)).trustDomain, 'culvert.local');
});

test('an agent whose credentials have expired joins again by itself, with the token that its pod has now', async () => {
  // Of its own: what an address sends with a bad token is counted, and how often this one does is a matter of time.
  await using cluster = await FakeApiServer.start();
  await using at = await startedController(path.join(directory.path, 'own'), { changes: changesFor(cluster) });
  const state = path.join(directory.path, 'expired');
  const files = { tokenFile: `${state}.token`, controllerCaFile: `${state}.ca` };
  await writeFile(files.controllerCaFile, at.caPem);
  await writeFile(files.tokenFile, tokenOf('of an hour ago', { authenticated: false }, cluster));
  const stored = new StateDirectory({ path: state });
  let current = { ...(await join(tokenOf('first', {}, cluster), { at })), notAfterMs: Date.now() - 1000 };
  const settings = { node: nodeNamed('n1'), controllerUrl: at.url, token: null, ...files };
  const reviews = (): number => cluster.heard.filter((line) => line.startsWith('POST')).length;
  const before = reviews();
  let joined = 0;
  using _rejoining = new Rejoining({
    join: { settings, directory: stored, version: 'test', log: silentLog },
    credentials: () => current,
    inCharge: Promise.resolve(),
    onJoined: async () => {
      const found = await stored.readCredentials(silentLog);
      assert.ok(found !== undefined);
      current = found;
      joined++;
    },
    checkEveryMs: 500,
  });
  await eventually('the old token was refused', async () => (reviews() > before ? true : undefined));
  assert.equal(joined, 0);
  await writeFile(files.tokenFile, tokenOf('of now', {}, cluster));
  await eventually('it has joined', async () => (joined > 0 ? true : undefined));
  assert.ok(current.notAfterMs > Date.now() && current.node === 'n1');
  // What counts is left alone.
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert.equal(joined, 1);
});

test('an agent joins the mesh of a controller with a new CA, where the installation names its roots, and starts again', async () => {
  await using cluster = await FakeApiServer.start();
  const changes = changesFor(cluster);
  const roots = '/api/v1/namespaces/culvert-system/configmaps/culvert-ca';
  const starting = () => startedController(path.join(directory.path, 'replaced'), { changes });
  cluster.overwrite(roots, { data: { 'ca.crt': controller.caPem } });
  await assert.rejects(starting(), { code: 'MESH_OF_OTHER_STATE', hint: /patch configmap culvert-ca --type merge -p/ });
  cluster.refuse(roots, 503);
  await assert.rejects(starting(), { message: /503/ }, 'nothing is known of the mesh of this cluster');
  cluster.refuse(roots, null);
  cluster.overwrite(roots, {});
  await using replaced = await starting();
  const state = path.join(directory.path, 'moved');
  const files = { tokenFile: `${state}.token`, controllerCaFile: `${state}.ca` };
  await writeFile(files.tokenFile, tokenOf('moved', {}, cluster));
  const stored = new StateDirectory({ path: state });
  const held = await join(tokenOf('before'));
  const settings = { node: nodeNamed('n1'), controllerUrl: replaced.url, token: null, ...files };
  using rejoining = new Rejoining({
    join: { settings, directory: stored, version: 'test', log: silentLog },
    credentials: () => held,
    inCharge: Promise.resolve(),
    onJoined: () => assert.fail('these are of another mesh'),
    checkEveryMs: 0,
  });
  // What answers there may be anything, while the installation names the roots that this node has.
  await writeFile(files.controllerCaFile, `${replaced.caPem}${controller.caPem}`);
  await rejoining.checkOtherMesh();
  assert.equal(await stored.readCredentials(silentLog), undefined);
  await writeFile(files.controllerCaFile, replaced.caPem);
  await rejoining.checkOtherMesh();
  assert.equal((await rejoining.moved).code, 'MESH_CHANGED');
  assert.equal((await stored.readCredentials(silentLog))?.rootsPem, replaced.caPem);
});

test('an agent whose credentials have expired joins the mesh of a new CA too', async () => {
  const state = path.join(directory.path, 'expired-moved');
  const files = { tokenFile: `${state}.token`, controllerCaFile: `${state}.ca` };
  await writeFile(files.controllerCaFile, controller.caPem);
  await writeFile(files.tokenFile, tokenOf('of now, of another mesh'));
  const stored = new StateDirectory({ path: state });
  const settings = { node: nodeNamed('n1'), controllerUrl: controller.url, token: null, ...files };
  const { publicKey } = generateSigningKey();
  const held = { ...(await join(tokenOf('old'))), notAfterMs: Date.now() - 1000, signingPublicKeys: [publicKey] };
  using rejoining = new Rejoining({
    join: { settings, directory: stored, version: 'test', log: silentLog },
    credentials: () => held,
    inCharge: Promise.resolve(),
    onJoined: () => assert.fail('these are of another mesh'),
  });
  await rejoining.checkExpired();
  assert.equal((await rejoining.moved).code, 'MESH_CHANGED');
});

test('the roots of the mesh are in the ConfigMap that agents read', () => {
  const [patch] = server.patches;
  assert.deepEqual(patch, {
    path: '/api/v1/namespaces/culvert-system/configmaps/culvert-ca',
    type: 'application/merge-patch+json',
    body: { data: { 'ca.crt': controller.caPem } },
  });
});

test('a token that was stolen from a node gets nothing of another', async () => {
  await assert.rejects(join(tokenOf('stolen'), { node: 'n2' }), {
    code: 'ACCOUNT_TOKEN_NODE',
    message: 'this token is of a pod on n1, and proves no other node',
  });
});

test('a node that was removed does not come back with the token that its pod still has', async () => {
  const token = tokenOf('removed', agentOn('n3'));
  assert.equal((await join(token, { node: 'n3' })).node, 'n3');
  assert.equal((await callApi(controller, 'DELETE', '/v1/nodes/n3')).status, 200);
  await assert.rejects(join(token, { node: 'n3' }), { code: 'ACCOUNT_TOKEN', message: /n3, which was removed/ });
  const created = await callApi(controller, 'POST', '/v1/tokens', { body: { node: 'n3' } });
  assert.equal((await join((created.body as TokenAnswer).token, { node: 'n3', caPem: null })).node, 'n3');
  assert.equal((await join(token, { node: 'n3' })).node, 'n3');
});

test('a token of another cluster, account or audience, or without a node, proves nothing', async () => {
  const user = { username: 'system:serviceaccount:culvert-system:culvert-agent' };
  const refused: [status: object, why: RegExp][] = [
    [{ authenticated: false }, /not one of this cluster, or has expired/],
    [{ audiences: ['https://kubernetes.default.svc'] }, /not for the audience culvert/],
    [{ audiences: null }, /not for the audience culvert/],
    [
      { user: { username: 'system:serviceaccount:shop:culvert-agent' } },
      /is of system:serviceaccount:shop:culvert-agent/,
    ],
    [{ user }, /does not say on which node its pod is/],
    [{ user: { ...user, extra: { 'authentication.kubernetes.io/node-name': ['N 1'] } } }, /does not say on which node/],
  ];
  for (const [index, [status, message]] of refused.entries()) {
    await assert.rejects(join(tokenOf(`refused-${index}`, status)), { code: 'ACCOUNT_TOKEN', message });
  }
});

test('without the roots of the mesh, and with others, the token is not sent', async () => {
  const token = tokenOf('secret');
  const heard = server.heard.length;
  await assert.rejects(join(token, { caPem: null }), { code: 'CA_UNKNOWN' });
  await assert.rejects(join(token, { caPem: 'nothing' }), { code: 'CA_UNKNOWN' });
  const other = await createRootCa({ trustDomain: 'culvert.local' });
  await assert.rejects(join(token, { caPem: other.rootPem }), { code: 'CONTROLLER_UNTRUSTED' });
  assert.ok(!server.heard.slice(heard).some((line) => line.startsWith('POST')));
});

test('while the API server is away, a join fails for that reason, and counts no failure of the agent', async () => {
  const token = tokenOf('later');
  server.refuse('/apis/authentication.k8s.io/v1/tokenreviews', 503);
  for (let tries = 0; tries < 12; tries++) {
    await assert.rejects(join(token), { message: /the Kubernetes API answered 503/ });
  }
  server.refuse('/apis/authentication.k8s.io/v1/tokenreviews', null);
  assert.equal((await join(token)).node, 'n1');
});
