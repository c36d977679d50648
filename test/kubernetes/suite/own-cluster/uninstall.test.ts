import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { imageName, usualRepository } from '../../images/test-images.js';
import { ownCluster } from '../../target.js';
import { CommandFolder } from '../command-folder.js';
import { InstalledCulvert } from './installed-culvert.js';
import { nodeTraces } from './node-traces.js';
import { onlyWebToDb, Shop } from './shop.js';

/** How Culvert goes away: in order, by a DaemonSet that is deleted, and in the wrong order. */
const cluster = ownCluster();
const { kubectl } = cluster;
const system = 'culvert-system';
const commands = new CommandFolder();
const shop = new Shop(cluster);

before(() => shop.start());
after(async () => {
  commands[Symbol.dispose]();
  await shop[Symbol.asyncDispose]();
  for (const node of cluster.nodes) await node.succeed(['rm', '-rf', '/var/lib/culvert/controller']);
});

/** A mesh that allows what web asks db for, and nothing else. */
async function installed(): Promise<void> {
  const culvert = await InstalledCulvert.install(cluster);
  await culvert.enrol('shop', 3);
  await culvert.culvert(['apply', '--wait', '120s', '-f', '-'], onlyWebToDb);
  assert.equal(await shop.isGreeted('default/unmeshed'), false);
  assert.equal(await shop.isGreeted('shop/web'), true);
  const all = (await nodeTraces(cluster)).join('\n');
  for (const what of [/CULVERT/, /culvert-cni/, /\/var\/lib\/culvert\/agent/]) assert.match(all, what);
}

async function uninstall(more = ''): Promise<string> {
  return await commands.succeed(`culvert uninstall --yes ${more}`, { timeoutMs: 400_000 });
}

test('culvert uninstall takes everything out, and pods go on as if it had never been there', async () => {
  await installed();
  const said = await uninstall();
  assert.match(said, /label taken from namespace shop\n/);
  assert.match(said, /off 2 nodes\n[^]*\n✔ nothing of Culvert is left\n$/);
  assert.deepEqual(await nodeTraces(cluster), []);
  assert.equal(await shop.isGreeted('shop/web'), true);
  assert.equal(await shop.isGreeted('default/unmeshed'), true);
  const left = ['get', 'namespaces,clusterroles,clusterrolebindings', '-l', 'app.kubernetes.io/part-of=culvert'];
  assert.equal(await kubectl.succeed([...left, '-o', 'name']), '');
});

test('agents whose DaemonSet is deleted take their rules out by themselves', async () => {
  await installed();
  const which = ['delete', 'daemonset', 'culvert-agent', '--cascade=background', '--timeout=90s'];
  await kubectl.succeed(['-n', system, ...which], { timeoutMs: 120_000 });
  const pods = ['-n', system, 'get', 'pods', '-l', 'app.kubernetes.io/component=agent', '-o', 'name'];
  await waitUntil('the agents have ended', async () => (await kubectl.succeed(pods)) === '' || undefined, 90_000);
  const rules = (await nodeTraces(cluster)).filter((line) => !line.endsWith('/var/lib/culvert/agent'));
  assert.deepEqual(rules, []);
  assert.equal(await shop.isGreeted('shop/web'), true);
  assert.equal(await shop.isGreeted('default/unmeshed'), true);
  await uninstall(`--image ${imageName('culvert', usualRepository)}`);
  assert.deepEqual(await nodeTraces(cluster), []);
});

test('when the controller was deleted first, pods stay closed, and culvert uninstall opens them', async () => {
  await installed();
  await kubectl.succeed(['-n', system, 'delete', 'deployment', 'culvert-controller', '--cascade=foreground']);
  await kubectl.succeed(['-n', system, 'delete', 'daemonset', 'culvert-agent', '--cascade=foreground']);
  assert.notDeepEqual(await nodeTraces(cluster), []);
  assert.equal(await shop.isGreeted('shop/web'), false);
  await kubectl.succeed(['delete', 'namespace', system, '--timeout=90s'], { timeoutMs: 120_000 });
  const said = await uninstall(`--image ${imageName('culvert', usualRepository)}`);
  assert.match(said, /the controller does not answer/);
  assert.deepEqual(await nodeTraces(cluster), []);
  assert.equal(await shop.isGreeted('shop/web'), true);
  assert.equal(await shop.isGreeted('default/unmeshed'), true);
});

test('a namespace that is deleted at once breaks no pod for good, and culvert uninstall cures what is left', async (t) => {
  await installed();
  await kubectl.succeed(['delete', 'namespace', system, '--timeout=180s'], { timeoutMs: 210_000 });
  const left = await nodeTraces(cluster);
  t.diagnostic(
    `the nodes still had ${left.length} traces; web was ${(await shop.isGreeted('shop/web')) ? '' : 'not '}answered`,
  );
  const said = await uninstall(`--image ${imageName('culvert', usualRepository)}`);
  assert.match(said, /nothing of Culvert is left\n$/);
  assert.deepEqual(await nodeTraces(cluster), []);
  assert.equal(await shop.isGreeted('shop/web'), true);
  assert.equal(await shop.isGreeted('default/unmeshed'), true);
});
