import type { LabTopology } from '../../lab/topology.js';

/** Two hosts and three namespaces: what rules can tell apart. */
export const ruleWorld: LabTopology = {
  hosts: [
    {
      name: 'node1',
      workloads: [
        { name: 'web', namespace: 'shop', serviceAccount: 'web', labels: { app: 'web', tier: 'front' } },
        { name: 'api', namespace: 'shop', serviceAccount: 'api', labels: { app: 'api', tier: 'front' } },
        { name: 'visitor', namespace: 'guest', serviceAccount: 'default', labels: { app: 'visitor' } },
      ],
    },
    {
      name: 'node2',
      workloads: [
        { name: 'db', namespace: 'shop', serviceAccount: 'db', labels: { app: 'db', tier: 'back' } },
        { name: 'cache', namespace: 'shop', serviceAccount: 'cache', labels: { app: 'cache', tier: 'back' } },
        { name: 'vault', namespace: 'ops', serviceAccount: 'vault', labels: { app: 'vault', tier: 'back' } },
      ],
    },
  ],
  services: [{ name: 'store', namespace: 'shop', ports: [{ port: 80, targetPort: 8000 }], selector: { tier: 'back' } }],
  externalHosts: ['outside'],
};

export const segmentationRule = (name: string, spec: string): string => `
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: ${name} }
spec: ${spec}
`;

export const authorizationPolicy = (namespace: string, name: string, spec: string): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}
`;

export const meshOf = (spec: string): string => `
apiVersion: culvert.dev/v1
kind: Mesh
metadata: { name: default }
spec: ${spec}
`;

/** One file of several documents. */
export function documents(...texts: readonly string[]): string {
  return texts.join('---\n');
}
