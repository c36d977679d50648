import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { TunnelDump, WorkerDump } from '../../agent/dataplane/messages.js';
import { hostPorts } from '../../agent/ports.js';
import { labHttp } from '../lab/lab-http.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { patientMs } from '../lab/patience.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { loggedIn, waitForLog } from '../support/mesh/log-lines.js';
import { ask, HeldConnection, startEcho } from '../support/mesh/echo-traffic.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

async function tunnelsOf(agent: MeshAgent): Promise<readonly TunnelDump[]> {
  const { workers } = (await agent.admin('/dump')) as { readonly workers: readonly WorkerDump[] };
  return workers.flatMap(({ tunnels }) => tunnels);
}

test(
  'a node that is removed is gone from check and rollout at once, and is back after it has joined again',
  { timeout: patientMs(120_000) },
  async () => {
    const { controller } = mesh;
    const gone = mesh.agent('node2');
    const [client, server] = [mesh.lab.workload('client'), mesh.lab.workload('server')];
    const echoes = await Promise.all([server, client].map((at) => startEcho(at, 8080)));
    const [toServer, toClient] = [
      { ip: server.ipv4, port: 8080 },
      { ip: client.ipv4, port: 8080 },
    ];
    const held = [await HeldConnection.open(client, toServer), await HeldConnection.open(server, toClient)];
    // A compromised node does as if it did not know. This one does not know.
    const deaf = ['INPUT', '-p', 'tcp', '--sport', '4222', '-j', 'DROP'];
    await gone.node.check(['iptables', '-I', ...deaf]);
    const removed = await controller.culvert(['node', 'remove', 'node2']);
    assert.equal(removed.code, 0, removed.stderr);
    assert.match(
      removed.stdout,
      /^node node2 removed\nstill registered there: shop\/server, shop\/spare; other agents refuse them /,
    );

    const stays = mesh.agent('node1');
    const removedAtMs = Date.now();
    await Promise.all(held.map((each) => each.ending()));
    for (const direction of ['outbound', 'inbound']) {
      const cut = await stays.waitForRecord(
        `the cut of the ${direction} connection`,
        (line) => line.direction === direction && line.reason === 'CERT_REVOKED',
      );
      assert.match(cut.detail ?? '', /no longer registered with the identity that it had|proved spiffe/);
    }
    await waitUntil('no tunnel with the removed node is left', async () =>
      (await tunnelsOf(stays)).length === 0 ? true : undefined,
    );
    assert.ok(Date.now() - removedAtMs < patientMs(5000), `it took ${Date.now() - removedAtMs} ms`);
    // The agent of the removed node has its certificates, rules and registry, and tries with them.
    assert.notEqual(await ask(server, toClient), 'ok');
    assert.notEqual(await ask(client, toServer), 'ok');
    const refused = await stays.waitForRecord(
      'the refusal of what the removed node tries',
      (line) => line.direction === 'inbound' && line.reason === 'SOURCE_UNKNOWN',
    );
    assert.match(refused.detail ?? '', /the registry has spiffe:\/\/removed-node\.culvert\.invalid/);
    await gone.node.check(['iptables', '-D', ...deaf]);

    const rollout = await controller.culvert(['rollout', 'status']);
    assert.equal(rollout.code, 0);
    assert.match(rollout.stdout, /enforced by 1 of 1 agents/);
    const check = await waitUntil('check is well but for the workloads there', async () => {
      const { stdout } = await controller.culvert(['check']);
      return /✔ agents: every agent enforces the current revision/.test(stdout) ? stdout : undefined;
    });
    assert.match(
      check,
      /! nodes: 2 workloads are on node2, a node that was removed: .*delete the Workloads, or move them/,
    );
    assert.equal((await controller.culvert(['node', 'remove', 'node2'])).code, 4, 'it is no node any more');
    await waitForLog(gone.logFile, 'connection to NATS lost', { deadlineMs: 30_000 });
    await waitUntil('it is refused', () =>
      loggedIn(gone.logFile, 'NATS operation failed').some((line) =>
        /[Aa]uthori[sz]ation|[Aa]uth/.test(String(line['problem'])),
      )
        ? true
        : undefined,
    );
    await waitUntil('its readiness says why, and what to do', async () => {
      const { body } = await labHttp({ from: gone.node, ip: '127.0.0.1', port: hostPorts.health, path: '/readyz' });
      return /refuses the credential: Authorization Violation \(.*culvert token create --node/.test(body)
        ? true
        : undefined;
    });

    const token = await gone.fetchToken();
    const tokenFile = path.join(mesh.lab.tempDir, 'token-again');
    writeFileSync(tokenFile, token, { mode: 0o600 });
    const where = ['--node', 'node2', '--controller', controller.url, '--state-dir', gone.stateDir];
    const joined = await gone.node.exec([...programs.agent, 'join', ...where, '--token-file', tokenFile], {
      timeoutMs: 30_000,
    });
    assert.equal(joined.code, 0, joined.stderr);
    assert.equal(joined.stderr, '');
    assert.match(joined.stdout, /^the agent that runs \(pid \d+\) uses the new credentials$/m);
    const listed = await controller.culvert(['token', 'list']);
    assert.match(listed.stdout, /^ID +NODE +STATE +EXPIRES +CREATED +BY\n[0-9a-f]{12} +node2 +used /);
    await gone.waitReady();
    await waitUntil('it is in the rollout again', async () => {
      const { stdout } = await controller.culvert(['rollout', 'status']);
      return /enforced by 2 of 2 agents/.test(stdout) ? true : undefined;
    });
    await waitUntil('its workloads are what they were', async () =>
      (await ask(client, toServer)) === 'ok' && (await ask(server, toClient)) === 'ok' ? true : undefined,
    );
    await Promise.all(echoes.map((echo) => echo.close()));
  },
);
