import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { hostPorts } from '../../agent/ports.js';
import { labHttp } from '../lab/lab-http.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

type Ready = {
  readonly ready: boolean;
  readonly pending: readonly { readonly name: string; readonly detail: string }[];
  readonly degraded: readonly { readonly name: string; readonly detail: string }[];
};

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts, controllerArgs: ['--workload-certificate-ttl', '20s'] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

async function readiness(host: string): Promise<Ready> {
  const from = mesh.agent(host).node;
  const { body } = await labHttp({ from, ip: '127.0.0.1', port: hostPorts.health, path: '/readyz' });
  return JSON.parse(body) as Ready;
}

test(
  'an agent that is cut off is ready until its certificates end, then it is not, and check says so once it is back',
  { timeout: patientMs(180_000) },
  async () => {
    await mesh.controller.stop();
    const cutOff = await waitUntil('the loss of NATS is named', async () => {
      const answer = await readiness('node1');
      return answer.degraded.some(({ name }) => name === 'nats') ? answer : undefined;
    });
    assert.equal(cutOff.ready, true, 'it serves from the last good state');
    const expired = await waitUntil(
      'the certificates have expired',
      async () => {
        const answer = await readiness('node1');
        return answer.pending.length < 2 ? undefined : answer;
      },
      60_000,
    );
    assert.deepEqual(expired.pending.map(({ name }) => name).toSorted(), [
      'certificate/shop/client',
      'certificate/shop/neighbour',
    ]);
    for (const { detail } of expired.pending) assert.match(detail, /^its certificate has expired: /);
    assert.match(
      expired.degraded.find(({ name }) => name === 'nats')?.detail ?? '',
      /NATS is unreachable.*cannot connect to NATS/,
    );

    await mesh.controller.start();
    const check = await mesh.controller.culvert(['check']);
    assert.notEqual(check.code, 0, check.stdout);
    await mesh.agent('node1').waitReady(60_000);
    await mesh.agent('node2').waitReady(60_000);
    await waitUntil('check is well again', async () => {
      const { stdout } = await mesh.controller.culvert(['check']);
      return /✔ certificates/.test(stdout) && /✔ agents/.test(stdout) ? true : undefined;
    });
  },
);
