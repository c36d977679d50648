import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { namespaceField, subdomainField } from './field-schemas.js';
import { namespacedMetadata } from './metadata.js';
import { instantField } from './instant.js';

/** What the kinds of the Gateway API have in common. Source: its reference, gateway.networking.k8s.io. */
export const gatewayApiGroup = 'gateway.networking.k8s.io';

/** Of routes, which count by their age: an API server writes it. */
export const routeMetadata = namespacedMetadata.extend({
  creationTimestamp: instantField
    .exactOptional()
    .describe('When a cluster made the object: of two routes for one port the older one counts.')
    .register(fieldNotes, { example: '2026-06-01T12:00:00Z' }),
});

export const referentNamespace = namespaceField
  .exactOptional()
  .describe('Its namespace. Without it that of the document.');

/** Names of services, and of objects of kinds that this version does not know. */
export const referentName = subdomainField('web');

export const groupField = z.string().max(253, 'must have at most 253 characters');
export const kindField = z
  .string()
  .regex(/^[a-zA-Z](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/, 'must be the name of a kind, such as Service');
