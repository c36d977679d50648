import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { hostPorts } from '../../agent/ports.js';
import { labHttp } from '../lab/lab-http.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { loggedIn, waitForLog } from '../support/mesh/log-lines.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

test(
  'a node that is removed is gone from check and rollout at once, and is back after it has joined again',
  { timeout: patientMs(120_000) },
  async () => {
    const { controller } = mesh;
    const gone = mesh.agent('node2');
    const removed = await controller.culvert(['node', 'remove', 'node2']);
    assert.equal(removed.code, 0, removed.stderr);
    assert.match(
      removed.stdout,
      /^node node2 removed\nstill registered there: shop\/server, shop\/spare; their certificates /,
    );

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

    await gone.stop();
    const token = await gone.fetchToken();
    const tokenFile = path.join(mesh.lab.tempDir, 'token-again');
    writeFileSync(tokenFile, token, { mode: 0o600 });
    const where = ['--node', 'node2', '--controller', controller.url, '--state-dir', gone.stateDir];
    const joined = await gone.node.exec([...programs.agent, 'join', ...where, '--token-file', tokenFile], {
      timeoutMs: 30_000,
    });
    assert.equal(joined.code, 0, joined.stderr);
    const listed = await controller.culvert(['token', 'list']);
    assert.match(listed.stdout, /^ID +NODE +STATE +EXPIRES +CREATED +BY\n[0-9a-f]{12} +node2 +used /);
    await gone.start();
    await gone.waitReady();
    await waitUntil('it is in the rollout again', async () => {
      const { stdout } = await controller.culvert(['rollout', 'status']);
      return /enforced by 2 of 2 agents/.test(stdout) ? true : undefined;
    });
  },
);
