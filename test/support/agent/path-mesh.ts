import type { LabNode } from '../../lab/lab-node.js';
import { allowAll, DataplaneMesh } from './dataplane-mesh.js';

const spec = (name: string) => ({ name, namespace: 'shop', serviceAccount: name });

/**
 * A client and a neighbour on one host, a server on the other, and a machine outside; plaintext is allowed. `ownCgroup`: see
 * {@link DataplaneMesh.start}.
 */
export function startPathMesh(o: { readonly ownCgroup?: string } = {}): Promise<DataplaneMesh> {
  return DataplaneMesh.start(
    {
      hosts: [
        { name: 'node1', workloads: [spec('client'), spec('neighbour')] },
        { name: 'node2', workloads: [spec('server')] },
      ],
      externalHosts: ['outside'],
    },
    { snapshot: allowAll({ mesh: { ...allowAll().mesh, mtls: 'PERMISSIVE' } }), ...o },
  );
}

export type TestedPath = {
  readonly name: string;
  readonly ends: (mesh: DataplaneMesh) => { from: LabNode; to: LabNode };
};

/** One connection on each path that bytes take. */
export const testedPaths: readonly TestedPath[] = [
  { name: 'a tunnel', ends: (mesh) => ({ from: mesh.workload('client'), to: mesh.workload('server') }) },
  { name: 'the host', ends: (mesh) => ({ from: mesh.workload('client'), to: mesh.workload('neighbour') }) },
  {
    name: 'plain TCP to the outside',
    ends: (mesh) => ({ from: mesh.workload('client'), to: mesh.lab.host('outside') }),
  },
  {
    name: 'plain TCP from the outside',
    ends: (mesh) => ({ from: mesh.lab.host('outside'), to: mesh.workload('server') }),
  },
];
