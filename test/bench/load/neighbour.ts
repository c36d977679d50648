import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type net from 'node:net';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { dialPeer, ping, report } from './peer-connections.js';

/**
 * `neighbour.js PROTOCOL HOST PORT COUNT`: a client that asks again and again, and reports each COUNT exchanges on one
 * connection and a quarter as many on new ones: when they began (milliseconds of the machine's monotonic clock) and how long
 * each took, microseconds. Between two it rests for a millisecond, so that it measures a path that is not its own load.
 * PROTOCOL: `echo` with a peer-server, `http` and `https` with a GET of /healthz and /readyz.
 */
const [protocol, host = '', portText, countText] = process.argv.slice(2);
const [address, count] = [{ host, port: Number(portText) }, Number(countText)];
type Client = {
  /** On the connection that is kept. */
  readonly exchange: () => Promise<unknown>;
  /** On a new one, which is closed then. */
  readonly open: () => Promise<unknown>;
};
const client = protocol === 'echo' ? await echoClient() : httpClient(protocol === 'https');
for (;;) {
  const startedAtMs = Number(process.hrtime.bigint() / 1_000_000n);
  const exchangesUs: number[] = [];
  const opensUs: number[] = [];
  for (let index = 0; index < count; index++) {
    exchangesUs.push(await timed(client.exchange));
    await pause(1);
    if (index % 4 !== 3) continue;
    opensUs.push(await timed(client.open));
    await pause(1);
  }
  report({ startedAtMs, exchangesUs, opensUs });
}

async function echoClient(): Promise<Client> {
  const kept = await dialPeer(address, 'e');
  await once(kept, 'data');
  const open = async (): Promise<void> => {
    const opened: net.Socket = await dialPeer(address, 'e');
    await once(opened, 'data');
    opened.end().on('error', () => undefined);
  };
  return { exchange: () => ping(kept), open };
}

/** The agent's endpoints keep no connection open, so there both are the same. */
function httpClient(isTls: boolean): Client {
  const path = isTls ? '/readyz' : '/healthz';
  const kept = isTls ? new https.Agent({ keepAlive: true, maxSockets: 1 }) : new http.Agent();
  const get = async (agent: http.Agent | false): Promise<void> => {
    const options = { ...address, path, agent, rejectUnauthorized: false, minVersion: 'TLSv1.3' as const };
    const request = isTls ? https.get(options) : http.get(options);
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    response.resume();
    await once(response, 'end');
  };
  return { exchange: () => get(kept), open: () => get(false) };
}

async function timed(step: () => Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now();
  await step();
  return Math.round((performance.now() - startedAtMs) * 1000);
}
