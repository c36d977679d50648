import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import { HttpEndpoint } from '../../../../agent/admin/http-endpoint.js';
import { createLog } from '../../../../shared/log.js';

test('a target that is none is refused, and fills no log', async () => {
  const lines: string[] = [];
  const log = createLog({ name: 'test', level: 'info', stream: { write: (line) => lines.push(line) } });
  const endpoint = await HttpEndpoint.listen({
    address: { host: '127.0.0.1', port: 0 },
    routes: { 'GET /x': () => ({ status: 200, body: 'x' }) },
    log,
    setting: '--health-address',
  });
  try {
    const socket = net.connect({ host: '127.0.0.1', port: endpoint.port });
    socket.end('GET //[ HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n');
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(answer.toString(), /^HTTP\/1\.1 400 [^]*BAD_REQUEST/);
    assert.deepEqual(lines, []);
    socket.destroy();
  } finally {
    await endpoint[Symbol.asyncDispose]();
  }
});
