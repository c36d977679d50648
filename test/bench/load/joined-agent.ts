import { request, type Agent } from 'node:https';
import { createJoinKeys, joinMesh } from '../../../agent/control/join/join.js';
import type { NodeCredentials } from '../../../agent/control/credentials/node-credentials.js';
import type { Bus } from '../../../shared/bus/bus.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import type { NodeName } from '../../../shared/routing/names.js';
import { inboxPrefixFor } from '../../../shared/bus/subjects.js';

/** A controller's API, as its context file says. */
export type Api = {
  readonly url: string;
  readonly token: string;
  readonly ca: string;
  /** Keeps connections; absent: one for each request. */
  readonly agent?: Agent;
};

/** Joins the mesh as a node, and connects to NATS with its credential. */
export async function joinAgent(
  api: Api,
  node: NodeName,
  signal: AbortSignal,
): Promise<{ readonly bus: Bus; readonly credentials: NodeCredentials }> {
  const { token } = (await post(api, '/v1/tokens', { node })) as { readonly token: string };
  const keys = await createJoinKeys();
  const credentials = await joinMesh({
    controllerUrl: api.url,
    token,
    caPem: null,
    node,
    keys,
    version: 'simulated',
    signal,
  });
  const { natsServers, natsServerName, natsCaPem, rootsPem, natsJwt, natsSeed } = credentials;
  const bus = await connectBus({
    servers: natsServers,
    tls: { caPem: natsCaPem ?? rootsPem, ...(natsServerName === null ? {} : { servername: natsServerName }) },
    auth: { kind: 'jwt', jwt: () => natsJwt, seed: () => natsSeed },
    name: `culvert-agent ${node}`,
    inboxPrefix: inboxPrefixFor(node),
    consumerPrefix: () => credentials.consumerPrefix ?? null,
    signal,
  });
  return { bus, credentials };
}

/** The answer's JSON. Rejects for every status but 2xx. */
export function post({ url, token, ca, agent }: Api, path: string, value: unknown): Promise<unknown> {
  const body = JSON.stringify(value);
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  };
  return new Promise((resolve, reject) => {
    const kept = agent === undefined ? {} : { agent };
    const sent = request(new URL(path, url), { method: 'POST', headers, ca, ...kept }, (response) => {
      const chunks: Buffer[] = [];
      response.on('error', reject);
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const { statusCode = 0 } = response;
        if (statusCode >= 200 && statusCode < 300) resolve(JSON.parse(text));
        else reject(new Error(`${path}: ${statusCode} ${text}`));
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
