import type { LabTopology } from '../../lab/topology.js';
import { ruleWorld } from './rule-world.js';

/** Every server of this world listens on these. */
export const whyPorts = [5432, 6379, 8000, 8001] as const;

/** The ports of the service, and what stands behind them. */
export const storePorts = [
  { port: 80, targetPort: 8000 },
  { port: 5432, targetPort: 5432 },
] as const;

/** The machine outside that a ServiceEntry names, on these ports; `outside` is named by nothing. */
export const partner = { address: '198.18.0.202', addressV6: 'fd00:c0::202', ports: [5432, 8000] } as const;

/** {@link ruleWorld} with a registered workload that has no agent, and a second machine outside. */
export const whyWorld: LabTopology = {
  ...ruleWorld,
  hosts: ruleWorld.hosts.map((host) =>
    host.name === 'node2'
      ? {
          ...host,
          workloads: [
            ...(host.workloads ?? []),
            { name: 'legacy', namespace: 'shop', serviceAccount: 'legacy', labels: { app: 'legacy' }, isMeshed: false },
          ],
        }
      : host,
  ),
  services: [{ name: 'store', namespace: 'shop', ports: storePorts, selector: { tier: 'back' } }],
  externalHosts: ['outside', 'partner'],
};
