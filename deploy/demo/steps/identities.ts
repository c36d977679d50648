import type { WorkerDump } from '../../../agent/dataplane/messages.js';
import { waitUntil } from '../../../test/lab/wait-until.js';
import { require, type Step } from '../step.js';

const web = 'spiffe://culvert.local/ns/shop/sa/web';
const cache = 'spiffe://culvert.local/ns/shop/sa/cache';

/** Step 3: the identities that both sides proved, from the live tunnels and the access logs of both agents. */
export const identities: Step = {
  id: 'identities',
  title: 'Both sides proved their SPIFFE ID with the certificates of the connection',
  run: async (stage, narrator) => {
    const say = (line: string): void => narrator.say(line);
    const client = stage.mesh.agent('node1');
    const server = stage.mesh.agent('node2');
    const isWebToCache = (line: { sourceWorkload?: string; destinationWorkload?: string }): boolean =>
      line.sourceWorkload === 'shop/web' && line.destinationWorkload === 'shop/cache';
    const sent = await client.waitForRecord('web → cache', isWebToCache);
    const taken = await server.waitForRecord(
      'web → cache',
      (line) => isWebToCache(line) && line.traceId === sent.traceId,
    );
    require(taken.sourceIdentity ===
      web, `node2 took the source from the client's certificate (${taken.sourceIdentity})`);
    require(sent.destinationIdentity === cache, `node1 checked the server's certificate (${sent.destinationIdentity})`);

    await waitUntil('the live tunnel of node1 is from web to cache', async () =>
      findTunnel(await client.admin('/dump'), 'client', web, cache),
    );
    await waitUntil('the live tunnel of node2 is from web to cache', async () =>
      findTunnel(await server.admin('/dump'), 'server', cache, web),
    );
    say(`client certificate: ${taken.sourceIdentity}`);
    say(`server certificate: ${sent.destinationIdentity}`);
    say(`both agents logged the connection under trace ${sent.traceId}`);
    return {
      clientProved: taken.sourceIdentity,
      serverProved: sent.destinationIdentity,
      traceId: sent.traceId,
      pathAtClient: sent.path,
      pathAtServer: taken.path,
    };
  },
};

function findTunnel(dump: unknown, side: 'client' | 'server', local: string, peer: string): true | undefined {
  const { workers } = dump as { workers: readonly WorkerDump[] };
  const isThere = workers
    .flatMap((worker) => worker.tunnels)
    .some((tunnel) => tunnel.side === side && tunnel.localIdentity === local && tunnel.peerIdentity === peer);
  return isThere || undefined;
}
