import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { fstatSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { pino } from 'pino';
import type { CapturedNetns } from '../../../../agent/capture/firewall/captured-netns.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { removeEverything } from '../../../../agent/capture/remove-everything.js';
import type { WorkloadCapture } from '../../../../agent/capture/workload-capture.js';
import { StateDirectory } from '../../../../agent/control/state/state-directory.js';
import { FailOpener } from '../../../../agent/fail-opener.js';
import { SupervisedRules } from '../../../../agent/supervised.js';
import { newDeferred } from '../../../../shared/deferred.js';
import { CaptureNetwork } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';

const log = pino({ level: 'silent' });
let network: CaptureNetwork;
let stateDir: string;
before(() => {
  network = new CaptureNetwork();
});
beforeEach(() => {
  stateDir = mkdtempSync(path.join(tmpdir(), 'culvert-rule-ownership-'));
});
afterEach(async () => {
  await network.cleanUp();
  rmSync(stateDir, { recursive: true, force: true });
});
after(() => network[Symbol.asyncDispose]());

type AfterDeath = {
  readonly opener: FailOpener;
  /** The removal begins; it goes on after `allowRemoval`. */
  readonly removing: Promise<void>;
  readonly allowRemoval: () => void;
  readonly next: WorkloadCapture;
  readonly workload: CapturedNetns;
  readonly inode: number;
};

/** Two namespaces that a dead agent captured, its supervisor, and the next agent, as far as they have to do with rules. */
async function afterDeath(): Promise<AfterDeath> {
  const { a, b } = network;
  const inode = fstatSync(a.fd).ino;
  const workload = { name: workloadNamed('t/a'), netnsPath: a.path, addresses: [], exclusions: noExclusions };
  const dead = network.capture({ log });
  await dead.apply(workload);
  await dead.close();
  const namespaces = [a, b].map(({ path: netnsPath, fd }) => ({
    workload: workload.name,
    netnsPath,
    netnsInode: fstatSync(fd).ino,
    addresses: [],
  }));
  await new StateDirectory({ path: stateDir }).captured.write({ namespaces });
  const [removing, mayRemove] = [newDeferred(), newDeferred()];
  const opener = new FailOpener({
    stateDir,
    log,
    onOpen: () => undefined,
    remove: async (o) => {
      removing.resolve();
      await mayRemove.promise;
      return await removeEverything({ ...o, keepsHost: true });
    },
  });
  const child = { connected: false } as ChildProcess;
  const rules: SupervisedRules = new SupervisedRules({
    tell: (message) => {
      if (message.type === 'give-rules-back') opener.childGivesBack(child, message.netnsInode);
      if (message.type !== 'take-rules') return;
      void opener.childTakes(child, message.netnsInode).then(() => rules.onTaken(message.netnsInode));
    },
  });
  const next = network.capture({ log, ownership: rules });
  return { opener, removing: removing.promise, allowRemoval: () => mayRemove.resolve(), next, workload, inode };
}

test('an agent that starts while the rules of the last one are removed loads its own when they are gone, and keeps them', async () => {
  const { opener, removing, allowRemoval, next, workload, inode } = await afterDeath();
  await network.serveCapturePorts(network.a);
  await opener.expectChild(0);
  await removing;
  const loaded = next.apply(workload);
  // What it loads without asking is loaded by then: this takes as long.
  const other = network.capture({ log });
  await other.apply({ ...workload, netnsPath: network.b.path });
  await other.releaseAll();
  allowRemoval();
  await loaded;
  const { socket, line } = await network.dial({ from: network.a, ip: network.b.ip[4], port: 8100 });
  assert.match(line, /^outbound/);
  await opener.close();
  assert.equal(await next.isRuled(workload.netnsPath, inode), true);
  assert.equal(await network.echo(socket, 'through the agent'), 'through the agent');
  await next.releaseAll();
});

test('rules that the next agent has loaded are not removed when its time is up', async () => {
  const { opener, removing, allowRemoval, next, workload, inode } = await afterDeath();
  allowRemoval();
  await next.apply(workload);
  await opener.expectChild(0);
  await removing;
  await opener.close();
  assert.equal(await next.isRuled(workload.netnsPath, inode), true);
  await next.releaseAll();
});
