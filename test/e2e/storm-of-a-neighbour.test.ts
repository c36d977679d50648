import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { reportOf, startLoad } from '../bench/load-program.js';
import { Quantiles } from '../bench/quantiles.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { readSome, twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

const connections = 2000;
const port = 9000;

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts, agentArgs: ['--workers', '1'] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

test(
  'a workload that opens 2,000 connections at once leaves others their exchanges and new connections',
  { timeout: patientMs(120_000) },
  async () => {
    const [server, client, neighbour] = ['server', 'client', 'neighbour'].map((name) => mesh.lab.workload(name));
    assert.ok(server !== undefined && client !== undefined && neighbour !== undefined);
    for (const node of [server, neighbour]) {
      await node.check(['sysctl', '-qw', 'net.core.somaxconn=4096', 'net.ipv4.tcp_max_syn_backlog=8192']);
    }
    const program = fileURLToPath(new URL('../bench/load/peer-server.js', import.meta.url));
    const application = await server.spawn([process.execPath, program, String(port)]);
    await application.waitForLine(/listening/, 10_000);
    const at = { ip: server.ipv4, port };
    const sockets: Socket[] = [];
    const open = async (): Promise<() => Promise<void>> => {
      const socket = await client.connect({ ...at, timeoutMs: 60_000 });
      sockets.push(socket);
      const exchange = async (text: string): Promise<void> => {
        socket.write(text);
        assert.equal((await readSome(socket)).toString(), text);
      };
      // The first byte says that this server is to echo.
      await exchange('e');
      return () => exchange('x');
    };
    const ping = await open();
    for (let round = 0; round < 200; round++) await ping();

    const storm = await startLoad(neighbour, 'storm', at, connections);
    const load = { isOver: false };
    const ended = reportOf(storm, 'totalMs', 90_000).finally(() => (load.isOver = true));
    const exchangesMs: number[] = [];
    const opensMs: number[] = [];
    while (!load.isOver) {
      const startedAt = performance.now();
      await ping();
      exchangesMs.push(performance.now() - startedAt);
      if (exchangesMs.length % 20 !== 0) continue;
      await open();
      opensMs.push(performance.now() - startedAt);
    }
    const { totalMs = Number.NaN, failed } = await ended;
    for (const socket of sockets) socket.destroy();
    assert.equal(failed, 0);
    // Shares of the storm's own time, so that a slow machine changes nothing.
    const share = (ms: number[], quantile: number): number =>
      new Quantiles({ values: Float64Array.from(ms) }).at(quantile) / totalMs;
    assert.ok(opensMs.length > 0, `only ${exchangesMs.length} exchanges in ${totalMs} ms`);
    assert.ok(share(exchangesMs, 0.95) < 0.1, `an exchange took ${share(exchangesMs, 0.95)} of the storm`);
    assert.ok(share(opensMs, 0.5) < 0.25, `a new connection took ${share(opensMs, 0.5)} of the storm`);
  },
);
