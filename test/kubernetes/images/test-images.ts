import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findCommand, requireProgram } from '../../lab/requirements.js';
import type { ClusterPrograms } from '../programs/build-programs.js';
import { type Image, writeImageArchive } from './image-archive.js';
import { ImageRoot, xtablesDirectory } from './image-root.js';

/** The output folder of the build. */
const builtDirectory = path.resolve(import.meta.dirname, '../../..');

/** Where the images would be, if they were in a registry. No machine of this name exists (RFC 6761). */
export const usualRepository = 'images.test';

/** What pods of the tests run, by the name of the image. */
export type TestImage = 'pause' | 'coredns' | 'app' | 'culvert';

/** `images.test/app:1`. */
export function imageName(image: TestImage, repository: string): string {
  return `${repository}/${image}:1`;
}

export type ImagesOptions = {
  /** A new archive. */
  readonly file: string;
  readonly repository: string;
  /** Null: without the images that a cluster of our own needs for itself. */
  readonly programs: ClusterPrograms | null;
};

/**
 * Writes all images of the tests into one archive: `app`, which the pods of applications run, `culvert`, the container image
 * of the product as this clone has built it, and for a cluster of our own `pause` and `coredns`. Throws `REQUIREMENT_MISSING`.
 */
export async function writeTestImages({ file, repository, programs }: ImagesOptions): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'culvert-images-'));
  try {
    const base = await makeBase(path.join(directory, 'base'));
    const app = makeApp(path.join(directory, 'app'), base);
    const culvert = await makeCulvert(path.join(directory, 'culvert'), base);
    const images: Image[] = [
      { name: imageName('app', repository), layers: [base, app] },
      { name: imageName('culvert', repository), layers: [base, culvert] },
    ];
    if (programs !== null) images.push(...own(directory, repository, programs));
    await writeImageArchive(file, images);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function own(directory: string, repository: string, { directories }: ClusterPrograms): Image[] {
  return (['pause', 'coredns'] as const).map((name) => {
    const root = new ImageRoot(path.join(directory, name));
    root.addFile(path.join(directories[name], name), `/${name}`);
    return { name: imageName(name, repository), layers: [root], entrypoint: [`/${name}`] };
  });
}

/** A shell, the commands that manifests use, and Node. */
async function makeBase(directory: string): Promise<ImageRoot> {
  const root = new ImageRoot(directory);
  for (const name of ['etc', 'tmp', 'run', 'proc', 'sys', 'dev', 'usr/bin', 'usr/sbin']) root.makeDirectory(name);
  for (const name of ['bin', 'sbin']) root.link(`/${name}`, 'usr/bin');
  const users = ['root:x:0:0::/:/bin/sh', 'culvert-agent:x:64001:64001::/:/bin/sh', 'nobody:x:65534:65534::/:/bin/sh'];
  root.write('/etc/passwd', `${users.join('\n')}\n`);
  root.write('/etc/group', 'root:x:0:\nculvert-agent:x:64001:\nnogroup:x:65534:\n');
  await root.addCommands(['sh', 'sleep', 'true', 'cat']);
  await root.addPrograms({ [realpathSync(process.execPath)]: '/usr/bin/node' });
  return root;
}

function makeApp(directory: string, base: ImageRoot): ImageRoot {
  const root = new ImageRoot(directory, base);
  root.addFile(path.join(import.meta.dirname, 'pod/main.js'), '/app.mjs');
  return root;
}

/** The programs as `npm run build` makes them, those in C with the addon, and what they start (`declared-programs.ts`). */
async function makeCulvert(directory: string, base: ImageRoot): Promise<ImageRoot> {
  const root = new ImageRoot(directory, base);
  await root.addCommands(['ip', 'nsenter', 'setpriv', 'nats-server']);
  await addIptables(root);
  root.addFile(path.join(builtDirectory, 'programs'), '/culvert/dist/programs');
  const native = ['culvert.node', 'culvert-helper', 'culvert-cni', 'culvert-cni-install'].map((name) =>
    path.join('agent/native', name),
  );
  const files = native.map((name) => [path.join(builtDirectory, name), path.join('/culvert/dist', name)] as const);
  await root.addPrograms(Object.fromEntries(files));
  root.addFile(path.join(builtDirectory, '../package.json'), '/culvert/package.json');
  for (const name of ['culvert', 'culvert-agent', 'culvert-controller']) {
    root.write(`/usr/bin/${name}`, `#!/bin/sh\nexec node /culvert/dist/programs/${name}.js "$@"\n`, 0o755);
  }
  return root;
}

/** Both back ends: the agent takes the one that the host uses. Each is one program under many names. */
async function addIptables(root: ImageRoot): Promise<void> {
  for (const kind of ['nft', 'legacy']) {
    const name = `iptables-${kind}`;
    requireProgram(name);
    const multi = realpathSync(findCommand(name) ?? name);
    await root.addPrograms({ [multi]: `/usr/bin/${path.basename(multi)}` });
    for (const family of ['iptables', 'ip6tables']) {
      for (const part of ['', '-save', '-restore']) {
        root.link(`/usr/bin/${family}-${kind}${part}`, path.basename(multi));
        if (kind === 'nft') root.link(`/usr/bin/${family}${part}`, path.basename(multi));
      }
    }
  }
  const directory = xtablesDirectory();
  const extensions = readdirSync(directory).filter((name) => name.endsWith('.so'));
  const files = extensions.map((name) => path.join(directory, name));
  await root.addPrograms(Object.fromEntries(files.map((file) => [file, file])));
}
