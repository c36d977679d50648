import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { requireSuccess } from '../../lab/command.js';
import type { ImageRoot } from './image-root.js';

/** An image: its layers, the lowest first. Images of one archive share layers. */
export type Image = {
  /** With its tag: `images.test/pause:1`. */
  readonly name: string;
  readonly layers: readonly ImageRoot[];
  /** Absent: the pod says what runs. */
  readonly entrypoint?: readonly string[];
};

type Descriptor = { readonly mediaType: string; readonly digest: string; readonly size: number };

const type = (name: string): string => `application/vnd.oci.image.${name}`;

/**
 * Writes images as one archive in the format of the Open Container Initiative, which `ctr images import`, `kind load
 * image-archive` and `skopeo` read: no registry and no daemon have a part in it. `file`: new, in a folder that has room for
 * twice its size.
 */
export async function writeImageArchive(file: string, images: readonly Image[]): Promise<void> {
  mkdirSync(path.dirname(file), { recursive: true });
  const directory = mkdtempSync(`${file}.`);
  try {
    const blobs = new Blobs(path.join(directory, 'blobs/sha256'));
    const packed = new Map<ImageRoot, Descriptor>();
    for (const layer of new Set(images.flatMap(({ layers }) => layers))) packed.set(layer, await blobs.addLayer(layer));
    const manifests = images.map((image) => {
      const layers = image.layers.flatMap((layer) => packed.get(layer) ?? []);
      const manifest = blobs.addJson('manifest.v1+json', {
        schemaVersion: 2,
        mediaType: type('manifest.v1+json'),
        config: blobs.addJson('config.v1+json', configOf(image, layers)),
        layers,
      });
      const tag = image.name.split(':').at(-1);
      const annotations = { 'io.containerd.image.name': image.name, 'org.opencontainers.image.ref.name': tag };
      return { ...manifest, annotations };
    });
    const index = { schemaVersion: 2, mediaType: type('index.v1+json'), manifests };
    writeFileSync(path.join(directory, 'index.json'), JSON.stringify(index));
    writeFileSync(path.join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    const argv = ['tar', '-C', directory, '-cf', file, 'oci-layout', 'index.json', 'blobs'];
    await requireSuccess(argv, { timeoutMs: 120_000 });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function configOf({ entrypoint = [] }: Image, layers: readonly Descriptor[]): object {
  return {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Entrypoint: entrypoint, Env: ['PATH=/usr/bin'] },
    // Nothing is compressed, so a layer has one digest.
    rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
  };
}

/** The files of an archive, named by the hash of their content. */
class Blobs {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true });
  }

  async addLayer(layer: ImageRoot): Promise<Descriptor> {
    const file = path.join(this.#directory, 'layer');
    await layer.pack(file);
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
    const digest = hash.digest('hex');
    const { size } = statSync(file);
    renameSync(file, path.join(this.#directory, digest));
    return { mediaType: type('layer.v1.tar'), digest: `sha256:${digest}`, size };
  }

  addJson(mediaType: string, value: object): Descriptor {
    const text = JSON.stringify(value);
    const digest = createHash('sha256').update(text).digest('hex');
    writeFileSync(path.join(this.#directory, digest), text);
    return { mediaType: type(mediaType), digest: `sha256:${digest}`, size: Buffer.byteLength(text) };
  }
}
