import { z } from 'zod';
import { isWildcard } from '../../../shared/routing/service-hosts.js';
import { hostField, subsetNameField } from './destination-rule.js';
import { fieldNotes } from './field-notes.js';
import { portField } from './field-schemas.js';

/** What Istio has as `mirror` of an HTTP route, for connections. */
export const routeMirror = z
  .strictObject({
    host: hostField
      .refine((text) => !isWildcard(text), 'is a wildcard: name one service')
      .describe('A service, which may be another one than `spec.hosts` names.'),
    subset: subsetNameField
      .exactOptional()
      .describe('A subset of a DestinationRule for that service. Without it all endpoints.'),
    port: z
      .strictObject({ number: portField.describe('Port of the service.') })
      .exactOptional()
      .describe('Without it the port that was dialled.')
      .register(fieldNotes, { example: '{ number: 6379 }' }),
  })
  .register(fieldNotes, { example: '{ host: web-next }' });

export type WrittenMirror = z.output<typeof routeMirror>;
