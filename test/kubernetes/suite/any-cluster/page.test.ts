import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { manifest } from '../../manifest.js';
import { openTarget, ownCluster, ownPlan } from '../../target.js';
import { CommandFolder } from '../command-folder.js';
import { OwnVolume } from '../own-volume.js';

/**
 * The commands of deploy/docs/kubernetes.md, line by line, as the page has them, but for the name of the image. It installs
 * Culvert and takes it out again, so it wants a cluster without it.
 */
const page = readFileSync('deploy/docs/kubernetes.md', 'utf8');
const { kubectl, image } = openTarget();
const commands = new CommandFolder();
const shop = manifest('page', { APP: image('app') });
const system = 'culvert-system';
let volume: OwnVolume | null = null;
const shownImage = 'registry.example.net/culvert:0.1.0';

/** Not run here, and why. */
const elsewhere: readonly (readonly [line: RegExp, why: string])[] = [
  [/^podman /, 'test-images.ts makes the same image, without a registry'],
  [/^helm install /, 'own-cluster/chart.test.ts runs Helm'],
];

/** What is true after a line. A line without an entry has to succeed, and nothing more. */
const afterwards: readonly (readonly [line: RegExp, look: (printed: string) => Promise<void> | void])[] = [
  [/ label namespace shop /, () => becomes({ web: true, other: true })],
  [/ culvert check$/, (printed) => assert.match(printed, /3 of them in the mesh|2 of them in the mesh/)],
  [/ apply -f rule\.yaml$/, () => becomes({ web: true, other: false })],
  [/ get culvert -A$/, (printed) => assert.match(printed, /db-closed-to-others/)],
  [/ --replicas 2(?: |$)/, oneOfTwoServes],
  [/ annotate lease /, async () => assert.equal(await leaseState(), '')],
  [/ patch configmap culvert-ca /, rootsAreBack],
  [/ --policies /, controllersAreReady],
  [/^culvert uninstall --yes/, leavesNothing],
];

/** Of blocks that say no language, which are those for a shell. What is no comment there has to be a command. */
function shownLines(): string[] {
  const lines: string[] = [];
  let language: string | null = null;
  for (const line of page.split('\n')) {
    const [, fence] = /^```(\w*)$/.exec(line) ?? [];
    if (fence !== undefined) language = language === null ? fence : null;
    else if (language === '' && line !== '' && !line.startsWith('# ')) lines.push(line);
  }
  return lines;
}

test('every line of a block for a shell begins with a program that a reader has', () => {
  const others = shownLines().filter((line) => !/^(?:culvert|kubectl|helm|podman) [^`;&<>]+$/.test(line));
  assert.deepEqual(others, []);
  assert.ok(shownLines().length > 5);
});

async function isAnswered(pod: string): Promise<boolean> {
  const argv = ['node', '/app.mjs', 'once', 'db.shop.svc.cluster.local', '70'];
  return (await kubectl.exec(pod, argv)).stdout.includes('"host":"db-');
}

async function becomes(wanted: { readonly web: boolean; readonly other: boolean }): Promise<void> {
  await waitUntil(
    `db answers ${JSON.stringify(wanted)}`,
    async () => {
      const found = { web: await isAnswered('shop/deployment/web'), other: await isAnswered('shop-outside/other') };
      return (found.web === wanted.web && found.other === wanted.other) || undefined;
    },
    60_000,
  );
}

async function controllersAreReady(): Promise<void> {
  await kubectl.wait(['-n', system, 'rollout', 'status', 'deployment/culvert-controller']);
}

/** The id of the state that the Lease of two controllers belongs to; empty: to none. */
async function leaseState(): Promise<string> {
  const state = 'jsonpath={.metadata.annotations.culvert\\.dev/state}';
  return await kubectl.succeed(['-n', system, 'get', 'lease', 'culvert-controller', '-o', state]);
}

async function oneOfTwoServes(): Promise<void> {
  await controllersAreReady();
  await waitUntil(
    'the Lease belongs to the state of a controller',
    async () => (await leaseState()) || undefined,
    90_000,
  );
}

/** A controller that has its state writes its roots again. */
async function rootsAreBack(): Promise<void> {
  const roots = ['-n', system, 'get', 'configmap', 'culvert-ca', '-o', 'jsonpath={.data}'];
  await waitUntil(
    'the roots are in the ConfigMap',
    async () => (await kubectl.succeed(roots)).includes('BEGIN CERTIFICATE') || undefined,
    30_000,
  );
}

async function leavesNothing(printed: string): Promise<void> {
  assert.match(printed, /nothing of Culvert is left\n$/);
  await becomes({ web: true, other: true });
}

before(async () => {
  for (const name of [system, 'shop', 'shop-outside']) {
    const { code } = await kubectl.run(['get', 'namespace', name]);
    assert.notEqual(
      code,
      0,
      `this file installs Culvert and its example, and the cluster has a namespace ${name} already`,
    );
  }
  const [, rule = ''] = /`rule\.yaml`[^]*?```yaml\n([^]*?)```/.exec(page) ?? [];
  writeFileSync(path.join(commands.directory, 'rule.yaml'), rule);
  if (ownPlan() !== null) volume = await OwnVolume.create(ownCluster());
  const marked = 'jsonpath={.items[*].metadata.annotations.storageclass\\.kubernetes\\.io/is-default-class}';
  const classes = await kubectl.succeed(['get', 'storageclasses', '-o', marked]);
  assert.match(
    classes,
    /true/,
    'the state of this installation is in a claim, and the cluster has no default storage class',
  );
  await kubectl.apply(shop);
  for (const name of ['db', 'web']) await kubectl.wait(['-n', 'shop', 'rollout', 'status', `deployment/${name}`]);
  await kubectl.wait(['-n', 'shop-outside', 'wait', '--for=condition=Ready', 'pod/other']);
});
after(async () => {
  commands[Symbol.dispose]();
  await kubectl.succeed(['delete', '-f', '-', '--timeout=120s'], { input: shop, timeoutMs: 150_000 });
  await volume?.[Symbol.asyncDispose]();
});

for (const line of shownLines().filter((each) => /^(?:culvert|kubectl) [^`;&<>]+$/.test(each))) {
  if (elsewhere.some(([pattern]) => pattern.test(line))) continue;
  test(line, { timeout: 300_000 }, async () => {
    const asHere = line.replaceAll(shownImage, image('culvert'));
    // What it looks at may need a moment.
    const isQuestion = / (?:culvert check|get culvert -A)$/.test(line);
    const options = { timeoutMs: 280_000 };
    const printed = isQuestion
      ? await waitUntil(`"${line}" succeeds`, () => commands.succeed(asHere, options), 90_000)
      : await commands.succeed(asHere, options);
    for (const [pattern, look] of afterwards) if (pattern.test(line)) await look(printed);
  });
}
