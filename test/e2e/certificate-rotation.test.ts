import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { HeldConnection, startEcho, SteadyTraffic } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts, controllerArgs: ['--workload-certificate-ttl', '30s'] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const identities = ['client', 'server'].map((name) => `spiffe://culvert.local/ns/shop/sa/${name}`);

/** How often each identity got a certificate so far, by the agents' logs. */
function issued(): number[] {
  const lines = mesh.agents.flatMap((agent) => loggedIn(agent.logFile, 'certificate issued'));
  return identities.map((identity) => lines.filter((line) => line['identity'] === identity).length);
}

/** Seconds that the certificates of client and server have left, from /metrics. */
async function secondsLeft(): Promise<number[]> {
  const [node1, node2] = [mesh.agent('node1'), mesh.agent('node2')];
  const expiries = await Promise.all([
    node1.metric('culvert_certificate_expiry_timestamp_seconds', { identity: identities[0] ?? '' }),
    node2.metric('culvert_certificate_expiry_timestamp_seconds', { identity: identities[1] ?? '' }),
  ]);
  return expiries.map((expiry) => expiry - Date.now() / 1000);
}

test(
  'certificates of 30 s are renewed twice under load without an error or a dropped connection',
  { timeout: patientMs(120_000) },
  async () => {
    const [client, server] = [mesh.lab.workload('client'), mesh.lab.workload('server')];
    const echo = await startEcho(server);
    const held = await HeldConnection.open(client, { ip: server.ipv4, port: echo.port });
    const heldSince = Date.now();
    await using traffic = new SteadyTraffic({ from: client, target: { ip: server.ipv4, port: echo.port }, lanes: 2 });
    await using traffic6 = new SteadyTraffic({
      from: client,
      target: { ip: server.ipv6, port: echo.port },
      pauseMs: 100,
    });
    const left: number[][] = [];
    await waitUntil(
      'two renewals of both identities, and the end of the first certificate',
      async () => {
        await held.exchange();
        left.push(await secondsLeft());
        await new Promise((resolve) => setTimeout(resolve, 200));
        return issued().every((count) => count >= 3) && Date.now() - heldSince > 31_000 ? true : undefined;
      },
      60_000,
    );
    // The last renewal may have come after the last look.
    left.push(await secondsLeft());

    const both = [traffic, traffic6];
    const hasEnough = (): true | undefined => (both.every(({ result }) => result.attempts > 100) ? true : undefined);
    await waitUntil('enough connections', hasEnough, 60_000);
    const results = await Promise.all([traffic.stop(), traffic6.stop()]);
    for (const { attempts, failures } of results) {
      assert.deepEqual(failures, [], `of ${attempts} connections`);
    }
    await held.exchange();
    assert.equal(held.ended, null);
    assert.equal(await held.close(), 'end');
    const record = await mesh.agent('node1').waitForRecord('the held connection', (line) => line.durationMs > 31_000);
    assert.deepEqual([record.reason, record.path], ['OK', 'hbone']);

    for (const index of identities.keys()) {
      const series = left.map((values) => values[index] ?? 0);
      assert.ok(Math.min(...series) > 3, `never close to its end: ${Math.min(...series)} s`);
      assert.ok(Math.max(...series) <= 30);
      const jumps = series.filter((value, at) => value > (series[at - 1] ?? value) + 5).length;
      assert.ok(jumps >= 2, `the metric shows ${jumps} renewals`);
    }
    const bad = mesh.agents.flatMap((agent) => agent.records()).filter(({ reason }) => reason !== 'OK');
    assert.deepEqual(bad, [], 'no agent logged anything but OK');
    const refused = await Promise.all(mesh.agents.map((agent) => agent.metric('culvert_refused_handshakes_total')));
    assert.deepEqual(refused, [0, 0]);
  },
);
