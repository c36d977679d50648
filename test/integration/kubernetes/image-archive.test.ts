import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type Image, writeImageArchive } from '../../kubernetes/images/image-archive.js';
import { ImageRoot } from '../../kubernetes/images/image-root.js';
import { requireSuccess } from '../../lab/command.js';

let directory: string;
before(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'culvert-archive-'));
});
after(() => rmSync(directory, { recursive: true }));

test('images of an archive share their layers, and the same content has the same digests', async () => {
  const contents = [await unpacked('first'), await unpacked('second')];
  assert.deepEqual(contents[1], contents[0]);
  const [{ index, blobs }] = contents as [Content];
  const names = index.manifests.map(({ annotations }) => annotations['io.containerd.image.name']);
  assert.deepEqual(names, ['images.test/one:1', 'images.test/two:1']);
  // A manifest and a configuration each, a layer each, and the one that both have.
  assert.equal(blobs.length, 7);
});

test('a program is in an image with the libraries that it loads, and runs there alone', async () => {
  const root = new ImageRoot(path.join(directory, 'root'));
  await root.addCommands(['cat', 'sh']);
  root.write('/etc/greeting', 'hello\n');
  const script =
    'mount --bind "$0" "$0"; cd "$0"; mkdir old; pivot_root . old; exec /usr/bin/sh -c "PATH=/usr/bin; cat /etc/greeting"';
  const argv = ['unshare', '--mount', '--propagation', 'private', 'bash', '-ec', script, root.directory];
  assert.equal(await requireSuccess(argv), 'hello\n');
});

type Content = {
  readonly index: { readonly manifests: readonly { readonly annotations: Readonly<Record<string, string>> }[] };
  readonly blobs: readonly string[];
};

async function unpacked(name: string): Promise<Content> {
  const base = new ImageRoot(path.join(directory, name, 'base'));
  base.write('/etc/passwd', 'root:x:0:0::/:/bin/sh\n');
  const images = ['one', 'two'].map((each): Image => {
    const own = new ImageRoot(path.join(directory, name, each), base);
    own.write('/name', each);
    return { name: `images.test/${each}:1`, layers: [base, own] };
  });
  const file = path.join(directory, `${name}.tar`);
  await writeImageArchive(file, images);
  const target = path.join(directory, `${name}-unpacked`);
  mkdirSync(target);
  await requireSuccess(['tar', '-xf', file, '-C', target]);
  const index = JSON.parse(readFileSync(path.join(target, 'index.json'), 'utf8')) as Content['index'];
  return { index, blobs: readdirSync(path.join(target, 'blobs/sha256')) };
}
