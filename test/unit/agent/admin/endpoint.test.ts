import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import type { HttpEndpoint, EndpointHandler } from '../../../../agent/admin/http-endpoint.js';
import { newDeferred } from '../../../../shared/deferred.js';
import { createLog } from '../../../../shared/log.js';
import { listeningEndpoint } from '../../../support/agent/listening-endpoint.js';

const lines: string[] = [];
const log = createLog({ name: 'test', level: 'info', stream: { write: (line) => lines.push(line) } });

function listen(handler: EndpointHandler, graceMs?: number): Promise<HttpEndpoint> {
  return listeningEndpoint({
    routes: { 'GET /x': handler },
    log,
    ...(graceMs === undefined ? {} : { graceMs }),
  });
}

async function connect({ port }: HttpEndpoint): Promise<net.Socket> {
  const socket = net.connect({ host: '127.0.0.1', port });
  await once(socket, 'connect');
  return socket;
}

/** All that comes until the connection ends. Rejects if it is reset. */
async function everything(socket: net.Socket): Promise<string> {
  let text = '';
  socket.on('data', (bytes: Buffer) => (text += bytes.toString()));
  await once(socket, 'end');
  return text;
}

const request = 'GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n';

test('a target that is none is refused, and fills no log', async () => {
  await using endpoint = await listen(() => ({ status: 200, body: 'x' }));
  const socket = await connect(endpoint);
  socket.end('GET //[ HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  assert.match(answer.toString(), /^HTTP\/1\.1 400 [^]*BAD_REQUEST/);
  assert.deepEqual(lines, []);
  socket.destroy();
});

test('an endpoint that closes refuses new connections at once, and answers those that it has', async () => {
  const asked = newDeferred();
  const mayAnswer = newDeferred();
  const endpoint = await listen(async () => {
    asked.resolve();
    await mayAnswer.promise;
    return { status: 200, body: 'x' };
  });
  // Accepted before the one whose request is handled, because a queue has an order.
  const quiet = await connect(endpoint);
  const early = await connect(endpoint);
  early.write(request);
  await asked.promise;
  const { port } = endpoint;
  const closed = endpoint[Symbol.asyncDispose]();
  const late = net.connect({ host: '127.0.0.1', port });
  await assert.rejects(once(late, 'connect'), { code: 'ECONNREFUSED' });
  quiet.write(request);
  const answers = Promise.all([everything(early), everything(quiet)]);
  mayAnswer.resolve();
  for (const answer of await answers) assert.match(answer, /^HTTP\/1\.1 200 [^]*connection: close\r\n[^]*x$/i);
  await closed;
});

test('a connection without a request keeps an endpoint from closing for the grace only', async () => {
  const endpoint = await listen(() => ({ status: 200, body: 'x' }), 50);
  const quiet = await connect(endpoint);
  const end = everything(quiet);
  await endpoint[Symbol.asyncDispose]();
  assert.equal(await end, '');
});
