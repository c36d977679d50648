import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ClusterPrograms } from '../programs/build-programs.js';
import { addCulvert, addNode } from './culvert-root.js';
import { type Image, writeImageArchive } from './image-archive.js';
import { ImageRoot } from './image-root.js';

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
    const base = new ImageRoot(path.join(directory, 'base'));
    await addNode(base);
    const app = await makeApp(path.join(directory, 'app'), base);
    const culvert = new ImageRoot(path.join(directory, 'culvert'), base);
    await addCulvert(culvert);
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

/** With the commands that manifests use. */
async function makeApp(directory: string, base: ImageRoot): Promise<ImageRoot> {
  const root = new ImageRoot(directory, base);
  await root.addCommands(['sleep', 'true']);
  root.addFile(path.join(import.meta.dirname, 'pod/main.js'), '/app.mjs');
  return root;
}
