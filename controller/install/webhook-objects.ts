import { customGroup, customKind, customKindNames } from '../resources/custom/custom-kinds.js';
import {
  apiPort,
  controllerName,
  labelsOf,
  webhookName,
  type InstallOptions,
  type KubernetesObject,
} from './install-options.js';
import { itemsWhen } from './slots.js';

/**
 * By which the API server asks the controller about rules. The controller writes its CA and its path into it, and keeps service
 * and rules as they are here.
 */
export function webhookObjects({ namespace, webhook }: InstallOptions): readonly KubernetesObject[] {
  return itemsWhen<KubernetesObject>(webhook.enabled, {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name: webhookName, labels: labelsOf('controller') },
    webhooks: [
      {
        name: 'rules.culvert.dev',
        failurePolicy: webhook.failurePolicy,
        sideEffects: 'None',
        timeoutSeconds: 5,
        admissionReviewVersions: ['v1'],
        clientConfig: { service: webhookService(namespace) },
        rules: webhookRules(),
      },
    ],
  });
}

/** Where the API server asks; the path is a secret of the controller. */
export function webhookService(namespace: string): { namespace: string; name: string; port: number } {
  return { namespace, name: controllerName, port: apiPort };
}

/** What it asks about. */
export function webhookRules(): readonly object[] {
  return [
    {
      apiGroups: [customGroup],
      apiVersions: ['v1'],
      // Never deletions, or what is wrong could not go.
      operations: ['CREATE', 'UPDATE'],
      resources: customKindNames.map((kind) => customKind(kind).plural),
      scope: '*',
    },
  ];
}
