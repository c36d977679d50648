import { decodeWire, joinRequestSchema } from '../../shared/wire/requests.js';
import type { JoinService } from '../join/join-service.js';
import type { Route } from './router.js';

const maxBodyBytes = 64 * 1024;

/** The route that agents use before they have a credential, after that of the CA. */
export function joinRoutes({ joining }: { readonly joining: JoinService }): Route[] {
  return [
    {
      method: 'POST',
      path: '/v1/join',
      access: 'open',
      maxBodyBytes,
      handle: async ({ body, source }) => ({
        status: 200,
        body: await joining.join(decodeWire(joinRequestSchema, body), source),
      }),
    },
  ];
}
