import { accessObjects } from './access-objects.js';
import { agentObjects } from './agent-objects.js';
import { controllerObjects } from './controller-objects.js';
import { labelsOf, type InstallOptions, type KubernetesObject } from './install-options.js';

/** All objects of an installation, in an order in which they can be created. */
export function installObjects(options: InstallOptions): readonly KubernetesObject[] {
  return [
    {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: options.namespace,
        labels: {
          ...labelsOf('mesh'),
          // Agents have the network of their nodes, and two capabilities.
          'pod-security.kubernetes.io/enforce': 'privileged',
          'culvert.dev/mesh': 'disabled',
        },
      },
    },
    ...accessObjects(options),
    ...controllerObjects(options),
    ...agentObjects(options),
  ];
}
