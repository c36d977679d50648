import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { ownershipScript } from '../../../../controller/install/controller-objects.js';
import { controllerUser } from '../../../../controller/install/install-options.js';

/** The init container that gives the controller its directory, on volumes that let root do that and on others. */
const parent = mkdtempSync(path.join(tmpdir(), 'culvert-state-'));
chmodSync(parent, 0o755);
after(() => rmSync(parent, { recursive: true }));
const directory = path.join(parent, 'state');
/** As NFS with root_squash and access points of EFS answer. */
const refusing = path.join(parent, 'refusing.cjs');
const eperm = "() => { throw Object.assign(new Error('no'), { code: 'EPERM' }) }";
writeFileSync(refusing, `const fs = require('fs'); fs.chownSync = ${eperm}; fs.chmodSync = ${eperm}\n`);
/** An access point shows its own user, and acts as that one for all. */
const otherUser = path.join(parent, 'other-user.cjs');
const shown = 'const s = real(p); s.uid = 1000; s.gid = 1000; return s';
writeFileSync(otherUser, `const fs = require('fs'); const real = fs.statSync; fs.statSync = (p) => { ${shown} }\n`);

/** Where the controller's user may start it, as in the image; the Node of the tests may be in a private directory. */
const node = path.join(parent, 'node');
copyFileSync(process.execPath, node);

type Before = { readonly owner: number; readonly mode: number; readonly preloads?: readonly string[] };

function ran({ owner, mode, preloads = [] }: Before) {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  chownSync(directory, owner, owner);
  chmodSync(directory, mode);
  const script = ownershipScript.replaceAll('/var/lib/culvert/controller', directory);
  const argv = [...preloads.flatMap((file) => ['-r', file]), '-e', script];
  const { status, stderr } = spawnSync(node, argv, { encoding: 'utf8' });
  const { uid, gid, mode: after } = statSync(directory);
  return { status, stderr, owner: [uid, gid], mode: (after & 0o777).toString(8) };
}

test('a directory that kubelet made becomes the controller’s, and is open to no other user', () => {
  const owner = [controllerUser, controllerUser];
  assert.deepEqual(ran({ owner: 0, mode: 0o755 }), { status: 0, stderr: '', owner, mode: '700' });
  assert.deepEqual(ran({ owner: controllerUser, mode: 0o750 }), { status: 0, stderr: '', owner, mode: '700' });
});

test('a volume that refuses root such changes is taken as it is, where the controller may write and no other user may', () => {
  const right = ran({ owner: controllerUser, mode: 0o700, preloads: [refusing] });
  assert.deepEqual([right.status, right.stderr], [0, '']);
  const accessPoint = ran({ owner: controllerUser, mode: 0o700, preloads: [refusing, otherUser] });
  assert.deepEqual([accessPoint.status, accessPoint.stderr], [0, '']);
});

test('else one line says who has the directory, and which export option or which user it needs', () => {
  for (const [owner, mode] of [
    [0, 0o700],
    [controllerUser, 0o750],
    [0, 0o777],
  ] as const) {
    const { status, stderr } = ran({ owner, mode, preloads: [refusing] });
    assert.equal(status, 1);
    const line = `belongs to ${owner}:${owner} with mode 0${mode.toString(8)}, and the volume refuses root to change that`;
    assert.match(
      stderr,
      new RegExp(`^\\S+/state ${line} \\(EPERM\\): .*no_root_squash.*access point.*65532:65532 .*0700\\n$`),
    );
  }
});
