import { HttpEndpoint } from '../../../agent/admin/http-endpoint.js';

/** An endpoint on a free port of 127.0.0.1. */
export async function listeningEndpoint(init: ConstructorParameters<typeof HttpEndpoint>[0]): Promise<HttpEndpoint> {
  const endpoint = new HttpEndpoint(init);
  await endpoint.listenOn({ address: { host: '127.0.0.1', port: 0 }, setting: '--health-address' });
  return endpoint;
}
