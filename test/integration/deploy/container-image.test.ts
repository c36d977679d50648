import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { addCulvert, addNode } from '../../kubernetes/images/culvert-root.js';
import { ImageRoot } from '../../kubernetes/images/image-root.js';
import { requireSuccess } from '../../lab/command.js';
import { declaredPrograms } from '../../lab/declared-programs.js';

/** What is in the container image, as deploy/container and the test cluster lay it out. */
let directory: string;
let root: ImageRoot;
before(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'culvert-image-'));
  root = new ImageRoot(path.join(directory, 'root'));
  await addNode(root);
  await addCulvert(root);
});
after(() => rmSync(directory, { recursive: true }));

/** Runs a program with the image as its root: nothing of this machine but the kernel. */
async function inImage(...argv: readonly string[]): Promise<string> {
  const node = 'mount --rbind /dev "$0/dev"; mount --rbind /proc "$0/proc"';
  const enter = `mount --bind "$0" "$0"; ${node}; cd "$0"; mkdir -p old; pivot_root . old; export PATH=/usr/bin; exec "$@"`;
  const outside = ['unshare', '--mount', '--net', '--propagation', 'private', 'bash', '-ec', enter, root.directory];
  return await requireSuccess([...outside, ...argv], { timeoutMs: 60_000 });
}

test('the image has every program that agent and controller start, and no compiler', () => {
  const programs = new Set(readdirSync(path.join(root.directory, 'usr/bin')));
  const started = declaredPrograms.filter(({ uses }) => uses.agent ?? uses.controller).map(({ command }) => command);
  assert.ok(started.length > 8, `${started.length} programs`);
  assert.deepEqual(
    started.filter((command) => !programs.has(command)),
    [],
  );
  for (const name of ['gcc', 'as', 'ld', 'apt-get', 'dpkg', 'npm', 'bash', 'tar', 'curl']) {
    assert.ok(!programs.has(name), name);
  }
});

const runs: readonly (readonly [argv: readonly string[], says: RegExp])[] = [
  [['culvert', 'install'], /kind: DaemonSet/],
  [['culvert-agent', 'config'], /./],
  [['culvert-controller', '--help'], /run/],
  [['iptables-nft', '-V'], /nf_tables/],
  [['ip6tables-nft-restore', '-V'], /nf_tables/],
  [['iptables-legacy', '-V'], /legacy/],
  [['iptables', '-V'], /nf_tables/],
  [['iptables-nft', '-t', 'nat', '-A', 'OUTPUT', '-p', 'tcp', '-m', 'comment', '--comment', 'x', '-j', 'RETURN'], /^$/],
  [['nats-server', '--version'], /nats-server/],
  [['ip', 'link'], /lo/],
  [['setpriv', '--reuid', '65532', '--clear-groups', 'culvert', 'install'], /kind: Deployment/],
  [['nsenter', '--version'], /util-linux/],
  [['unshare', '--version'], /util-linux/],
];
for (const [argv, says] of runs) {
  test(`in the image, with nothing else: ${argv.join(' ')}`, async () => {
    assert.match(await inImage(...argv), says);
  });
}

test('the addon and the programs in C are in the image', () => {
  for (const name of ['culvert.node', 'culvert-helper', 'culvert-cni', 'culvert-cni-install']) {
    assert.ok(existsSync(path.join(root.directory, 'culvert/dist/agent/native', name)), name);
  }
  assert.ok(existsSync(path.join(root.directory, 'culvert/dist/shared/native/file-lock.node')));
});
