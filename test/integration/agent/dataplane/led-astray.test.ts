import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { TestCgroup } from '../../../support/agent/cgroups.js';
import type { DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { startPathMesh } from '../../../support/agent/path-mesh.js';
import { readSome } from '../../../support/mesh/two-hosts.js';

/** The agent must reach a server from a port of which connection tracking still has the connection of a client. */

const firstPort = 8700;
const rounds = 12;
/** The kernel gives the agent an even one of these while one is free, and every second of those gets an entry. */
const agentsPorts = { first: 40_000, last: 40_015 };
const clientsPort = 50_000;

let cgroup: TestCgroup;
let inside: Disposable;
let mesh: DataplaneMesh;
before(async () => {
  cgroup = new TestCgroup();
  inside = cgroup.enter();
  mesh = await startPathMesh({ ownCgroup: cgroup.path });
  const { first, last } = agentsPorts;
  await mesh.workload('client').exec(['sysctl', '-qw', `net.ipv4.ip_local_port_range=${first} ${last}`]);
});
after(async () => {
  await mesh[Symbol.asyncDispose]();
  inside[Symbol.dispose]();
  cgroup[Symbol.dispose]();
});

for (const family of ['ipv4', 'ipv6'] as const) {
  test(`a dial that follows the entry of a client is made again from another port: ${family}`, async () => {
    const client = mesh.workload('client');
    const outside = mesh.lab.host('outside');
    for (let round = 0; round < rounds; round++) {
      const port = firstPort + round;
      const target = { ip: outside[family], port };
      // Nothing listens yet, so the agent is refused, and resets its client: the entry stays.
      for (let localPort = agentsPorts.first + 2 * (round % 2); localPort <= agentsPorts.last; localPort += 4) {
        await isReset(client.connect({ ...target, localPort }));
        const { reason } = await mesh.closed('node1', ({ source }) => source.address?.port === localPort);
        assert.equal(reason, 'CONNECT_REFUSED');
      }
      await outside.listen({ ip: outside[family], port }, (socket) => {
        socket.on('error', () => {});
        socket.write('from the outside');
      });
      const localPort = clientsPort + round;
      const served = await client.connect({ ...target, localPort });
      served.on('error', () => {});
      assert.equal(String(await readSome(served)), 'from the outside', `round ${round}`);
      served.resetAndDestroy();
      await mesh.closed('node1', ({ source }) => source.address?.port === localPort);
    }
  });
}

/** At once, or after it was there. */
async function isReset(connecting: Promise<Socket>): Promise<void> {
  const failure = await connecting.then(
    (socket) => new Promise<Error>((resolve) => void socket.once('error', resolve)),
    (error: unknown) => error,
  );
  assert.equal((failure as NodeJS.ErrnoException).code, 'ECONNRESET');
}
