import { decodeWire, joinRequestSchema } from '../../shared/wire/requests.js';
import type { JoinService } from '../join/join-service.js';
import type { Route } from './router.js';

const maxBodyBytes = 64 * 1024;

/** Routes that agents use before they have a credential. */
export function joinRoutes(init: { readonly joining: JoinService; readonly rootsPem: () => string }): Route[] {
  const { joining, rootsPem } = init;
  return [
    {
      method: 'GET',
      path: '/v1/ca',
      access: 'open',
      maxBodyBytes: 0,
      handle: () => ({ status: 200, body: { rootsPem: rootsPem() } }),
    },
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
