import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { boundNamespaces, namespaceMounts } from '../../../../agent/capture/bound-namespaces.js';
import { hostMark } from '../../../../agent/capture/firewall/chain-plan.js';
import { CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import { detectBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { findCapturedNamespaces } from '../../../../agent/capture/host-namespaces.js';
import { netnsInode, ownNetnsInode } from '../../../../agent/native/netns.js';
import { LabProcess } from '../../../lab/lab-process.js';

const run = promisify(execFile);
let directory: string;
let file: string;
let holder: LabProcess;

before(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'culvert-bound '));
  file = path.join(directory, 'namespace');
  writeFileSync(file, '');
  // A network namespace without a process, which only the mount namespace of this shell has, in a place with a blank.
  const script = 'unshare --net="$1" true && echo bound && exec sleep 1000';
  holder = await LabProcess.start(['unshare', '--mount', 'sh', '-c', script, 'sh', file]);
  await holder.waitForLine(/bound/);
});

after(async () => {
  await holder.stop('SIGKILL');
  rmSync(directory, { recursive: true });
});

/** As this process finds the namespace. */
const place = (): string => `/proc/${holder.pid}/root${file}`;

test('a network namespace that is bound in another mount namespace is found', () => {
  const inode = netnsInode(place());
  assert.ok(inode !== undefined && inode !== ownNetnsInode());
  const paths = boundNamespaces([String(process.pid), String(holder.pid)]);
  assert.ok(paths.includes(place()), paths.join());
  assert.equal(new Set(paths).size, paths.length, 'each mount namespace is read once');
});

test('capture in it is found', async () => {
  const runner = new CommandRunner({ maxParallel: 1 });
  const tools = { runner, backend: await detectBackend(runner) };
  const inode = netnsInode(place());
  const isCaptured = async (): Promise<boolean> =>
    (await findCapturedNamespaces(tools)).some((found) => found.inode === inode);
  const iptables = (action: '-N' | '-X'): Promise<unknown> =>
    run('nsenter', [`--net=${place()}`, 'iptables', '-w', '-t', 'nat', action, hostMark(ownNetnsInode())]);
  assert.equal(await isCaptured(), false);
  await iptables('-N');
  assert.equal(await isCaptured(), true);
  await iptables('-X');
  assert.equal(await isCaptured(), false);
});

test('of the mounts of a process only network namespaces are taken, with their blanks', () => {
  const table = [
    '25 30 0:23 / /proc rw,relatime shared:13 - proc proc rw',
    '412 35 0:4 net:[4026532281] /run/netns/web rw shared:220 - nsfs nsfs rw',
    '413 35 0:4 mnt:[4026532282] /run/mount-namespace rw - nsfs nsfs rw',
    '414 35 0:4 net:[4026532283] /srv/with\\040blank rw - nsfs nsfs rw',
  ].join('\n');
  assert.deepEqual(namespaceMounts(table), ['/run/netns/web', '/srv/with blank']);
});
