import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { MeshCheck } from '../../../../controller/cli/view/mesh-check.js';
import { ownCluster } from '../../target.js';
import { CommandFolder } from '../command-folder.js';

/** What `culvert check --pre` says of a real cluster, before anything of Culvert is there. */
const cluster = ownCluster();
const { kubectl } = cluster;
const commands = new CommandFolder();
const storage = '--storage host-path:/var/lib/culvert/controller --node-selector kubernetes.io/hostname=n1';
const [closed, limited] = ['culvert-closed', 'culvert-limited'];

after(async () => {
  commands[Symbol.dispose]();
  await kubectl.succeed(['delete', 'namespace', closed, limited, '--ignore-not-found', '--timeout=90s'], {
    timeoutMs: 120_000,
  });
  await kubectl.succeed(['delete', 'clusterrole,clusterrolebinding', 'culvert-test-reader', '--ignore-not-found']);
});

type Checked = { readonly code: number; readonly checks: readonly MeshCheck[]; readonly err: string };

/** Options of `culvert install`, and more of `culvert check`. */
async function check(install: string, more = ''): Promise<Checked> {
  const line = `culvert install ${install} | culvert check --pre -f - -o json ${more}`;
  const { code, stdout, stderr } = await commands.run(line, { timeoutMs: 180_000 });
  return { code, checks: JSON.parse(stdout) as MeshCheck[], err: stderr };
}

function wrong({ checks }: Checked): string[] {
  return checks
    .filter(({ state }) => state === 'warn' || state === 'fail')
    .map(({ check: name, state, message, hint }) => `${state} ${name}: ${message} (${hint})`);
}

test('a cluster that takes an installation passes, and nothing is left of the questions', async () => {
  const said = await check(storage);
  assert.deepEqual(wrong(said), [], said.err);
  assert.equal(said.code, 0, said.err);
  const [version] = said.checks.filter(({ check: name }) => name === 'version');
  assert.match(version?.message ?? '', /^the cluster is v1\.\d+\.\d+/);
  assert.equal(await kubectl.succeed(['-n', 'default', 'get', 'pods', 'culvert-check', '--ignore-not-found']), '');
});

test('a claim without a storage class fails', async () => {
  const said = await check('');
  assert.equal(said.code, 1);
  assert.match(wrong(said).join('\n'), /^fail storage: no storage class is the default one.*--storage host-path/);
});

test('a namespace that Pod Security closes fails, and is named with the cure', async () => {
  await kubectl.succeed(['create', 'namespace', closed]);
  const labels = ['pod-security.kubernetes.io/enforce=baseline', 'culvert.dev/mesh=disabled'];
  await kubectl.succeed(['label', 'namespace', closed, ...labels]);
  const said = await check(`${storage} --namespace ${closed} --no-create-namespace`);
  assert.equal(said.code, 1);
  const found = wrong(said).join('\n');
  assert.match(found, /fail namespace: culvert-closed enforces the Pod Security level "baseline"/);
  assert.match(found, /fail admission: .*violates PodSecurity.*kubectl label --overwrite namespace culvert-closed/);
});

test('an account that may only read is told what it may not make', async () => {
  await kubectl.apply(`apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: culvert-test-reader }
rules:
  - { apiGroups: ['*'], resources: ['*'], verbs: [get, list] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: culvert-test-reader }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: culvert-test-reader }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: User, name: reader }]
`);
  commands.add('kubectl-as-reader', [...cluster.usersKubectl, '--as=reader']);
  const said = await check(storage, '--kubectl kubectl-as-reader');
  assert.equal(said.code, 1);
  const found = wrong(said);
  assert.equal(found.length, 2, found.join('\n'));
  assert.match(found.join('\n'), /fail rights: your account of the cluster may not create namespaces.* and \d+ more/);
  assert.match(found.join('\n'), /warn admission: .*reader.* cannot create resource "pods"/);
});

test('a network policy without a way for tunnels is named, and one that gives it settles that', async () => {
  await kubectl.succeed(['create', 'namespace', limited]);
  const policy = (name: string, ports: string): string => `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${name}, namespace: ${limited} }
spec: { podSelector: {}, policyTypes: [Ingress], ingress: [${ports}] }
`;
  await kubectl.apply(policy('default-deny', ''));
  const said = await check(storage);
  assert.match(wrong(said).join('\n'), /^warn policies: culvert-limited\/default-deny leaves no way for tunnels/);
  assert.equal(said.code, 0);
  await kubectl.apply(policy('tunnels', '{ ports: [{ protocol: TCP, port: 15008 }] }'));
  assert.deepEqual(wrong(await check(storage)), []);
});
