import type { Cluster } from '../../cluster/cluster.js';
import { imageName, usualRepository } from '../../images/test-images.js';
import { manifest } from '../../manifest.js';
import { InstalledCulvert } from './installed-culvert.js';

/** Of the pods of the tests. */
export const appImage = imageName('app', usualRepository);

/** web and near have one account. Their connections to db are the only ones that are allowed. */
export const onlyWebToDb = `apiVersion: culvert.dev/v1
kind: Mesh
metadata: { name: default }
spec: { mtls: STRICT, defaultAction: deny }
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: web-to-db }
spec: { action: allow, from: [{ serviceAccount: shop/web }], to: [{ serviceAccount: shop/db }] }
`;

/** The application of most suites: web, near and db in the namespace shop, and three pods outside (`manifests/shop.yaml`). */
export class Shop implements AsyncDisposable {
  readonly #cluster: Cluster;
  readonly #objects = manifest('shop', { APP: appImage });

  /** Nothing of it is there before `start`. */
  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Resolves when its pods are ready. */
  async start(): Promise<void> {
    const { kubectl } = this.#cluster;
    await kubectl.apply(this.#objects);
    await kubectl.wait(['-n', 'shop', 'rollout', 'status', 'deployment/db']);
    for (const namespace of ['shop', 'default'])
      await kubectl.wait(['-n', namespace, 'wait', '--for=condition=Ready', 'pod', '--all']);
  }

  /** Starts it, and installs Culvert with more options of `culvert install`: web, near and db are in the mesh. */
  async startInMesh(options: readonly string[] = []): Promise<InstalledCulvert> {
    await this.start();
    const culvert = await InstalledCulvert.install(this.#cluster, options);
    await culvert.enrol('shop', 3);
    return culvert;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const deletion = ['delete', '-f', '-', '--timeout=120s'];
    await this.#cluster.kubectl.succeed(deletion, { input: this.#objects, timeoutMs: 150_000 });
  }

  /** What db says to a pod (`NAMESPACE/NAME`) that connects to its service: the name of its host, or the error. */
  async greeting(pod: string): Promise<string> {
    const argv = ['node', '/app.mjs', 'once', '10.96.7.7', '70'];
    const { stdout, stderr } = await this.#cluster.kubectl.exec(pod, argv);
    return stdout === '' ? stderr : stdout;
  }

  async isGreeted(pod: string): Promise<boolean> {
    return (await this.greeting(pod)).includes('"host":"db-');
  }
}
