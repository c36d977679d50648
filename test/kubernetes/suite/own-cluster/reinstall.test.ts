import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { ownCluster } from '../../target.js';
import { CommandFolder } from '../command-folder.js';
import { recordFigure } from '../figures.js';
import { InstalledCulvert } from './installed-culvert.js';
import { cniOfNodes, nodeTraces } from './node-traces.js';
import { onlyWebToDb, Shop } from './shop.js';

/** Culvert comes and goes five times, while a pod of an application opens connections all the time. */
const cluster = ownCluster();
const { kubectl } = cluster;
const commands = new CommandFolder();
const shop = new Shop(cluster);

type Round = {
  /** Whether the installation finds the state of the round before: an uninstallation leaves a directory of a node alone. */
  readonly state: 'new' | 'kept';
  /** How the rules come; those of documents are in the state. Both ways at once would be a conflict. */
  readonly rules: 'documents' | 'objects';
};

const rounds: readonly Round[] = [
  { state: 'new', rules: 'documents' },
  { state: 'kept', rules: 'documents' },
  { state: 'new', rules: 'objects' },
  { state: 'kept', rules: 'objects' },
  { state: 'new', rules: 'documents' },
];

before(() => shop.start());
after(async () => {
  commands[Symbol.dispose]();
  await shop[Symbol.asyncDispose]();
  await forgetState();
});

/** It is in a directory of the node that the user chose, so it outlives what installs and uninstalls. */
async function forgetState(): Promise<void> {
  await cluster.node('n1').succeed(['rm', '-rf', '/var/lib/culvert/controller']);
}

type Load = {
  readonly begun: number;
  readonly greeted: number;
  readonly longestMs: number;
  readonly gapMs: number;
  readonly errors: readonly string[];
};

/** web opens twenty connections a second to db until the returned function is called. */
async function load(): Promise<() => Promise<Load>> {
  await kubectl.exec('shop/web', ['node', '-e', "require('fs').rmSync('/tmp/end', { force: true })"]);
  const argv = ['node', '/app.mjs', 'load', '10.96.7.7', '70', '3600000'];
  const loading = kubectl.exec('shop/web', argv, { timeoutMs: 3_700_000 });
  return async () => {
    await kubectl.exec('shop/web', ['node', '-e', "require('fs').writeFileSync('/tmp/end', '')"]);
    return JSON.parse((await loading).stdout) as Load;
  };
}

/** Of every kind that can be listed, but for what comes and goes by itself. */
async function objects(): Promise<readonly string[]> {
  const all = (await kubectl.succeed(['api-resources', '--verbs=list', '-o', 'name'])).trim().split('\n');
  const kinds = all.filter((name) => !/^(?:events|componentstatuses|leases)(?:\.|$)/.test(name));
  const names = await kubectl.succeed(['get', kinds.join(','), '--all-namespaces', '--ignore-not-found', '-o', 'name']);
  return names.trim().split('\n').sort();
}

/** Installs Culvert, with the rules of a round. */
async function installed({ state, rules }: Round): Promise<void> {
  if (state === 'new') await forgetState();
  const culvert = await InstalledCulvert.install(cluster);
  await kubectl.succeed(['label', 'namespace', 'shop', 'culvert.dev/mesh=enabled']);
  if (state === 'kept') {
    // Before anyone applies them again, also those of objects that the cluster has no more.
    const isClosed = async (): Promise<true | undefined> => !(await shop.isGreeted('default/unmeshed')) || undefined;
    await waitUntil('the rules of the state are in force', isClosed);
  }
  if (rules === 'objects') {
    await kubectl.apply(onlyWebToDb);
    await kubectl.wait(['wait', '--for=condition=InForce', 'mesh/default', 'sr/web-to-db']);
  } else if (state === 'new') {
    await culvert.culvert(['apply', '--wait', '120s', '-f', '-'], onlyWebToDb);
  }
  await culvert.captures(3);
  assert.equal(await shop.isGreeted('shop/web'), true);
  assert.equal(await shop.isGreeted('default/unmeshed'), false);
}

async function uninstalled(): Promise<void> {
  const said = await commands.succeed('culvert uninstall --yes', { timeoutMs: 400_000 });
  assert.match(said, /nothing of Culvert is left\n$/);
  const definitions = await InstalledCulvert.definitions();
  await kubectl.succeed(['delete', '-f', '-', '--timeout=120s'], { input: definitions, timeoutMs: 150_000 });
}

test(
  `${rounds.length} times installed and uninstalled, and nothing is left each time`,
  { timeout: 900_000 },
  async (t: TestContext) => {
    const clean = { objects: await objects(), cni: await cniOfNodes(cluster) };
    let longestGapMs = 0;
    for (const [at, round] of rounds.entries()) {
      const name = `round ${at + 1}, ${round.rules}, the state ${round.state}`;
      const ended = await load();
      await installed(round);
      await uninstalled();
      assert.deepEqual(await nodeTraces(cluster), [], name);
      assert.equal(await cniOfNodes(cluster), clean.cni, name);
      assert.deepEqual(await objects(), clean.objects, name);
      for (const pod of ['shop/web', 'default/unmeshed']) assert.equal(await shop.isGreeted(pod), true, name);
      const { begun, greeted, gapMs, errors } = await ended();
      t.diagnostic(
        `${name}: ${greeted} of ${begun} greeted, longest gap ${gapMs} ms; ${errors.slice(0, 5).join(', ')}`,
      );
      longestGapMs = Math.max(longestGapMs, gapMs);
      assert.ok(gapMs < patientMs(15_000), `${name}: no connection succeeded for ${gapMs} ms`);
    }
    recordFigure('uninstallGapSeconds', Number((longestGapMs / 1000).toFixed(1)));
  },
);
