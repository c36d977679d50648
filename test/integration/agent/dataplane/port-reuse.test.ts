import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { LabNode } from '../../../lab/lab-node.js';
import { patientMs } from '../../../lab/patience.js';
import { DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { readSome } from '../../../support/mesh/two-hosts.js';

const attempts = 10;
/** After two rounds of the agent it knows the sockets of the clients. */
const roundsMs = 11_000;

describe(
  'a client that resets its connection and connects again from the same port',
  { concurrency: true, timeout: patientMs(120_000) },
  () => {
    let mesh: DataplaneMesh;
    const web = (): LabNode => mesh.workload('web');

    before(async () => {
      const spec = (name: string) => ({ name, namespace: 'shop', serviceAccount: name });
      mesh = await DataplaneMesh.start({
        hosts: [
          { name: 'node1', workloads: [spec('web')] },
          { name: 'node2', workloads: [spec('db')] },
        ],
      });
    });
    after(() => mesh[Symbol.asyncDispose]());

    for (const { when, ageMs, firstPort } of [
      { when: 'at once', ageMs: 0, firstPort: 41_000 },
      { when: 'after the agent has learnt which socket it has', ageMs: roundsMs, firstPort: 42_000 },
    ]) {
      test(`keeps the new one, ${when}`, async () => {
        const { port } = await mesh.workload('db').listen({}, echo);
        const target = { ip: mesh.workload('db').ipv4, port };
        const localPorts = Array.from({ length: attempts }, (_, index) => firstPort + index);
        const first = await Promise.all(localPorts.map((localPort) => web().connect({ ...target, localPort })));
        for (const client of first) await asks(client);
        await new Promise((resolve) => {
          setTimeout(resolve, ageMs);
        });
        const second: Socket[] = [];
        for (const [index, client] of first.entries()) {
          client.resetAndDestroy();
          await once(client, 'close');
          const localPort = firstPort + index;
          second.push(await web().connect({ ...target, localPort }));
        }
        // The record of the first one is closed by then: whatever the agent does to its socket, it has done.
        for (const localPort of localPorts) {
          const { reason } = await mesh.closed('node1', ({ source }) => source.address?.port === localPort);
          assert.equal(reason, 'CLIENT_RESET');
        }
        for (const client of second) {
          await asks(client);
          client.destroy();
        }
      });
    }
  },
);

function echo(socket: Socket): void {
  socket.on('error', () => {});
  socket.on('data', (chunk) => socket.write(chunk));
}

async function asks(client: Socket): Promise<void> {
  client.write('still here');
  assert.equal(String(await readSome(client)), 'still here');
}
