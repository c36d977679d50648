import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { installObjects } from '../../../../controller/install/install-objects.js';
import type { InstallValues, KubernetesObject } from '../../../../controller/install/install-options.js';
import { valueNotes } from '../../../../controller/install/install-values.js';
import { requireSuccess, runCommand } from '../../../lab/command.js';
import { installValueSets } from '../../../support/controller/install-value-sets.js';
import { imageName, usualRepository } from '../../images/test-images.js';
import { ownCluster } from '../../target.js';
import { cureNodes } from './installed-culvert.js';

/** The chart of Helm: the same objects as those of `culvert install`, and what Helm does with them. */
const cluster = ownCluster();
const { kubectl } = cluster;
/** Below the folder of the cluster, which the nodes see too. */
const directory = mkdtempSync(path.join(cluster.plan.directory, 'chart-'));
const chart = path.join(directory, 'culvert');
const helmProgram = path.join(cluster.plan.programs.directories.helm, 'helm');
const home = { HELM_CACHE_HOME: directory, HELM_CONFIG_HOME: directory, HELM_DATA_HOME: directory };
const valuesFile = path.join(directory, 'values.json');
cpSync('deploy/helm/culvert', chart, { recursive: true });
after(() => rmSync(directory, { recursive: true }));

function write(values: InstallValues): void {
  writeFileSync(valuesFile, JSON.stringify(values));
}

/** On this machine, without a cluster. */
async function helm(...args: readonly string[]): Promise<string> {
  return await requireSuccess([helmProgram, ...args], { env: home, timeoutMs: 60_000 });
}

/** On the first node, with the cluster. */
async function helmOnNode(...args: readonly string[]): Promise<string> {
  const [node] = cluster.nodes;
  const env = Object.entries(home).map(([name, value]) => `${name}=${value}`);
  const [, config = ''] = cluster.kubectlArgs;
  return await node.succeed(['env', ...env, 'helm', '--kubeconfig', config, ...args], { timeoutMs: 180_000 });
}

/** Without what Helm puts in front of it: nothing that is empty counts. */
function documentsOf(text: string): KubernetesObject[] {
  const documents = parseAllDocuments(text, { version: '1.1' });
  return documents.map((document) => document.toJS() as KubernetesObject | null).filter((each) => each !== null);
}

function byName(objects: readonly KubernetesObject[]): Record<string, KubernetesObject> {
  const name = ({ kind, metadata }: KubernetesObject): string => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
  return Object.fromEntries(objects.map((object) => [name(object), object]));
}

for (const [name, values] of Object.entries(installValueSets)) {
  test(`the chart renders the objects of culvert install, and lint finds nothing: ${name}`, async () => {
    write(values);
    const rendered = documentsOf(await helm('template', 'culvert', chart, '--values', valuesFile));
    const expected = installObjects(values);
    assert.equal(rendered.length, expected.length);
    assert.deepEqual(byName(rendered), byName(expected));
    const lint = await helm('lint', chart, '--strict', '--values', valuesFile);
    assert.match(lint, /0 chart\(s\) failed/);
  });
}

const refused: readonly (readonly [set: string, says: RegExp])[] = [
  ['namespace=A_b', /namespace/],
  ['image=a b', /image/],
  ['trustDomain=A.b', /trustDomain/],
  ['hostProbes=root', /hostProbes/],
  ['controller.storage.kind=nfs', /controller\/storage\/kind|controller\.storage\.kind/],
  ['controller.storage.kind=host-path,controller.storage.path=/a', /nodeSelector/],
  ['controller.storage.kind=host-path,controller.nodeSelector.a=b', /path/],
  ['controller.storage.path=/a/../b', /path/],
  ['controller.replicas=3', /replicas/],
  ['controller.replicas=2,controller.storage.kind=empty-dir', /controller/],
  ['webhook.failurePolicy=fail', /failurePolicy/],
  ['policies={Pod}', /policies/],
  ['policies={NetworkPolicy,NetworkPolicy}', /policies/],
  ['agent.privileges=none', /agent\/privileges|agent\.privileges/],
  ['createNamespace=maybe', /createNamespace/],
  ['colour=red', /colour/],
];
for (const [set, says] of refused) {
  test(`Helm refuses ${set} by the schema of the values`, async () => {
    const argv = [helmProgram, 'template', 'culvert', chart, '--set', set];
    const { code, stderr } = await runCommand(argv, { env: home, timeoutMs: 60_000 });
    assert.notEqual(code, 0);
    assert.match(stderr, says);
  });
}

for (const path of Object.keys(valueNotes)) {
  test(`Helm refuses ${path}=null by the schema of the values`, async () => {
    const argv = [helmProgram, 'template', 'culvert', chart, '--set', `${path}=null`];
    const { code, stderr } = await runCommand(argv, { env: home, timeoutMs: 60_000 });
    assert.notEqual(code, 0);
    assert.ok(stderr.includes(`'${path.split('.').at(-1)}'`), stderr);
  });
}

test('the chart is for the namespace of the release, and makes no object of what Helm has made', async () => {
  const placeOf = async (...args: readonly string[]) => {
    const objects = documentsOf(await helm('template', 'culvert', chart, ...args));
    const made = objects.filter(({ kind }) => kind === 'Namespace').map(({ metadata }) => metadata.name);
    return [[...new Set(objects.flatMap(({ metadata }) => metadata.namespace ?? []))], made];
  };
  const usual = 'culvert-system';
  assert.deepEqual(await placeOf(), [[usual], [usual]]);
  assert.deepEqual(await placeOf('-n', usual, '--create-namespace'), [[usual], []]);
  assert.deepEqual(await placeOf('-n', 'mesh', '--create-namespace'), [['mesh'], []]);
  assert.deepEqual(await placeOf('-n', 'mesh', '--set', 'namespace=other'), [['other'], ['other']]);
});

test('helm installs the chart, changes it, and takes it away again', async () => {
  const { 'the state in a directory of a node': values } = installValueSets;
  assert.ok(values);
  write({ ...values, image: imageName('culvert', usualRepository) });
  await helmOnNode('install', 'culvert', chart, '--values', valuesFile);
  const isReady = async (): Promise<void> => {
    await kubectl.wait(['-n', 'culvert-system', 'rollout', 'status', 'deployment/culvert-controller']);
    await kubectl.wait(['-n', 'culvert-system', 'rollout', 'status', 'daemonset/culvert-agent']);
  };
  await isReady();
  const roots = ['-n', 'culvert-system', 'get', 'configmap', 'culvert-ca', '-o', 'jsonpath={.data}'];
  const before = await kubectl.succeed(roots);
  assert.match(before, /BEGIN CERTIFICATE/);
  await helmOnNode('upgrade', 'culvert', chart, '--values', valuesFile, '--set', 'agent.resources.requests.cpu=50m');
  await isReady();
  assert.equal(await kubectl.succeed(roots), before);
  const pod = ['exec', 'deployment/culvert-controller', '-c', 'controller', '--', 'culvert', 'check'];
  assert.match(await kubectl.succeed(['-n', 'culvert-system', ...pod]), /agents/);
  await helmOnNode('uninstall', 'culvert', '--wait', '--timeout', '150s');
  await kubectl.wait(['wait', '--for=delete', 'namespace/culvert-system']);
  const left = ['get', 'clusterroles,clusterrolebindings', '-l', 'app.kubernetes.io/part-of=culvert', '-o', 'name'];
  assert.equal((await kubectl.succeed(left)).trim(), '');
  await cureNodes(cluster);
  for (const node of cluster.nodes)
    await node.succeed(['rm', '-rf', '/var/lib/culvert/agent', '/var/lib/culvert/controller']);
});
