import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, describe, test } from 'node:test';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { codeOf, errorOf, exchange, greetAndEcho, outbound } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
const ports = [{ name: 'late', port, earlyAccept: false }];
let mesh: DataplaneMesh | null = null;

async function start(init: { workers?: number; snapshot?: null }): Promise<DataplaneMesh> {
  const topology = {
    hosts: [
      { name: 'node1', workloads: [{ name: 'web', namespace: 'shop', serviceAccount: 'web' }] },
      { name: 'node2', workloads: [{ name: 'db', namespace: 'shop', serviceAccount: 'db', ports }] },
    ],
  };
  mesh = await DataplaneMesh.start(topology, init);
  return mesh;
}

describe('late accept in a pool of workers', { timeout: patientMs(120_000) }, () => {
  afterEach(async () => {
    await mesh?.[Symbol.asyncDispose]();
    mesh = null;
  });

  test('without rules a connect is refused, as NO_RULES_YET', async () => {
    const started = await start({ snapshot: null });
    const target = { ip: started.workload('db').ipv4, port };
    await assert.rejects(started.workload('web').connect(target), (error) => codeOf(error) === 'ECONNREFUSED');
    assert.equal((await started.closed('node1', outbound)).reason, 'NO_RULES_YET');
    await started.workload('db').listen({ port }, greetAndEcho);
    await started.apply(allowAll());
    assert.match(await exchange(await started.workload('web').connect(target), 'x'), /x$/);
  });

  test('a worker that dies with connects that wait is replaced, and they are served', async () => {
    const started = await start({ workers: 2 });
    const [web, db] = [started.workload('web'), started.workload('db')];
    await db.listen({ port }, greetAndEcho);
    const drop = ['INPUT', '-p', 'tcp', '--syn', '--dport', String(port), '-j', 'DROP'];
    await db.check(['iptables', '-I', ...drop]);
    const target = { ip: db.ipv4, port, timeoutMs: patientMs(60_000) };
    const connecting = Array.from({ length: 5 }, () => web.connect(target));
    const owner = await waitUntil('the connects are held', async () =>
      (await started.pool('node1').dump()).find(({ connections }) => connections.length === 5),
    );
    const lost = once(started.pool('node1'), 'workerLost');
    started.crashWorker('node1', owner.workerIndex);
    await lost;
    await db.check(['iptables', '-D', ...drop]);
    for (const socket of await Promise.all(connecting)) assert.match(await exchange(socket, 'alive'), /alive$/);
  });

  test('a rule that comes while a connect waits refuses it', async () => {
    const started = await start({ workers: 1 });
    const [web, db] = [started.workload('web'), started.workload('db')];
    const drop = ['INPUT', '-p', 'tcp', '--syn', '--dport', String(port), '-j', 'DROP'];
    await db.check(['iptables', '-I', ...drop]);
    const connecting = web.connect({ ip: db.ipv4, port }).then(errorOf, codeOf);
    await waitUntil('the connect is held', async () =>
      (await started.pool('node1').dump()).some(({ connections }) => connections.length === 1) ? true : undefined,
    );
    const denying = allowAll({ revision: 2 });
    await started.apply({ ...denying, mesh: { ...denying.mesh, defaultAction: 'deny', outbound: 'deny' } });
    assert.equal(await connecting, 'ECONNREFUSED');
    assert.equal((await started.closed('node1', outbound)).reason, 'POLICY_TERMINATED');
  });
});
