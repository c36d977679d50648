import { accessObjects } from './access-objects.js';
import { agentObjects } from './agent-objects.js';
import { controllerObjects } from './controller-objects.js';
import { type InstallOptions, type InstallValues, type KubernetesObject } from './install-options.js';
import { monitoringObjects } from './monitoring-objects.js';
import { namespaceObjects } from './namespace-objects.js';
import { webhookObjects } from './webhook-objects.js';

/** A group of objects: a file of the chart. */
export type InstallPart = { readonly name: string; readonly objects: readonly KubernetesObject[] };

/** All objects of an installation in an order in which they can be created; of a chart, with its slots. */
export function installParts(options: InstallOptions): readonly InstallPart[] {
  return [
    { name: 'namespace', objects: namespaceObjects(options) },
    { name: 'access', objects: accessObjects(options) },
    // Before the controller, which writes into it when it starts.
    { name: 'webhook', objects: webhookObjects(options) },
    { name: 'controller', objects: controllerObjects(options) },
    { name: 'agent', objects: agentObjects(options) },
    { name: 'monitoring', objects: monitoringObjects(options) },
  ];
}

/** All objects of an installation with these values. */
export function installObjects(values: InstallValues): readonly KubernetesObject[] {
  return installParts(values).flatMap(({ objects }) => objects);
}
