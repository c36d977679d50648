import type { Cluster } from '../cluster/cluster.js';

const directory = '/run/culvert-state';
const objects = `apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: { name: culvert-state, annotations: { storageclass.kubernetes.io/is-default-class: 'true' } }
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: { name: culvert-state }
spec:
  storageClassName: culvert-state
  capacity: { storage: 5Gi }
  accessModes: [ReadWriteOnce]
  hostPath: { path: ${directory}, type: DirectoryOrCreate }
  nodeAffinity:
    required: { nodeSelectorTerms: [{ matchExpressions: [{ key: kubernetes.io/hostname, operator: In, values: [n1] }] }] }
`;

/** The one volume of a cluster of our own, with the storage class for it: it makes no volumes, as the cluster of a user does. */
export class OwnVolume implements AsyncDisposable {
  readonly #cluster: Cluster;

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  static async create(cluster: Cluster): Promise<OwnVolume> {
    await cluster.kubectl.apply(objects);
    return new OwnVolume(cluster);
  }

  /** The claim is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    const deletion = ['delete', '-f', '-', '--timeout=60s'];
    await this.#cluster.kubectl.succeed(deletion, { input: objects, timeoutMs: 90_000 });
    await this.#cluster.node('n1').succeed(['rm', '-rf', directory]);
  }
}
