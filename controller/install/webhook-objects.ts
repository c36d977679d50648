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

/** By which the API server asks the controller about rules. The controller writes its CA and its path into it. */
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
        clientConfig: { service: { namespace, name: controllerName, port: apiPort } },
        rules: [
          {
            apiGroups: [customGroup],
            apiVersions: ['v1'],
            // Never deletions, or what is wrong could not go.
            operations: ['CREATE', 'UPDATE'],
            resources: customKindNames.map((kind) => customKind(kind).plural),
          },
        ],
      },
    ],
  });
}
