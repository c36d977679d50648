import assert from 'node:assert/strict';
import process from 'node:process';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { capturePorts } from '../../../agent/ports.js';
import type { LabNode } from '../../lab/lab-node.js';
import { patientMs } from '../../lab/patience.js';
import { waitUntil } from '../../lab/wait-until.js';
import { exchange, greetAndEcho, refusal } from '../../support/agent/dataplane-applications.js';
import { DataplaneMesh } from '../../support/agent/dataplane-mesh.js';
import { reportOf } from '../../support/mesh/attacker-report.js';

/**
 * A client whose connections are refused opens them again at once. Each costs the thread that refuses it, and those that others
 * open wait behind them. What is refused is held, and ended in its turn, so the client is soon waiting for all of its own.
 */

const port = 8080;
const attackers = 600;
const attackerFile = fileURLToPath(new URL('../../bench/load/attacker.js', import.meta.url));

describe('connections that are refused and opened again at once', { timeout: patientMs(180_000) }, () => {
  let mesh: DataplaneMesh;
  const heldAt = new Map<string, number>();
  const held = (): number => [...heldAt.values()].reduce((sum, each) => sum + each, 0);

  before(async () => {
    const workload = (name: string) => ({ name, namespace: 'shop', serviceAccount: name });
    mesh = await DataplaneMesh.start({
      hosts: [
        { name: 'node1', workloads: [workload('hostile'), workload('client')] },
        { name: 'node2', workloads: [workload('server')] },
      ],
      externalHosts: ['stranger', 'neighbour'],
    });
    for (const host of ['node1', 'node2'])
      mesh.pool(host).on('report', ({ gauges }) => heldAt.set(host, gauges.heldRefusals));
    await mesh.workload('server').listen({ port }, greetAndEcho);
  });
  after(() => mesh[Symbol.asyncDispose]());

  const to = (targetPort: number) => ({ ip: mesh.workload('server').ipv4, port: targetPort });
  const served = async (): Promise<void> => {
    assert.match(await exchange(await mesh.workload('client').connect(to(port)), 'x'), /x$/);
  };

  /** Connections a second that are over, from when all were opened once. */
  async function attack(from: LabNode, targetPort: number, honest: () => Promise<unknown>): Promise<number> {
    const { ip } = to(targetPort);
    const argv = [process.execPath, attackerFile, 'silent', ip, String(targetPort), String(attackers), ''];
    await using attacker = await from.spawn(argv);
    await attacker.waitForLine(/^started$/, 60_000);
    // The first ones of a burst are answered at once.
    await pause(500);
    const [startedAtMs, before] = [performance.now(), reportOf(attacker).connections];
    for (let round = 0; round < 20; round++) {
      await honest();
      await pause(50);
    }
    const over = reportOf(attacker).connections - before;
    const perSecond = over / ((performance.now() - startedAtMs) / 1000);
    await waitUntil('some are held', () => (held() > 0 ? true : undefined));
    return perSecond;
  }

  // Held, and one ended in 10 ms.
  test('a stranger at a tunnel port, whose handshakes find no place', async (t) => {
    const perSecond = await attack(mesh.lab.host('stranger'), capturePorts.inboundTunnel, served);
    t.diagnostic(`${perSecond.toFixed(0)} a second`);
    assert.ok(perSecond < 300, `${perSecond} a second`);
  });

  // Held, and one ended in 5 ms.
  for (const [title, from, targetPort] of [
    ['a stranger in plain text, where mutual TLS is required', 'stranger', port],
    ['a workload that dials what is refused it', 'hostile', capturePorts.inboundTunnel],
  ] as const) {
    test(title, async (t) => {
      const node = from === 'stranger' ? mesh.lab.host(from) : mesh.workload(from);
      const other = from === 'stranger' ? mesh.lab.host('neighbour') : mesh.workload('client');
      const answersMs: number[] = [];
      const perSecond = await attack(node, targetPort, async () => {
        const startedAtMs = performance.now();
        assert.equal(await refusal(other, to(targetPort)), 'ECONNRESET');
        answersMs.push(performance.now() - startedAtMs);
        await served();
      });
      const slowestMs = Math.max(...answersMs);
      t.diagnostic(`${perSecond.toFixed(0)} a second; another one is refused within ${slowestMs.toFixed(0)} ms`);
      assert.ok(perSecond < 500, `${perSecond} a second`);
      assert.ok(slowestMs < patientMs(2000), 'it waits for its own, and not for those of the attacker');
    });
  }

  test('none is left when its client has gone, and a drain waits for none', async () => {
    await waitUntil('all have ended', () => (held() === 0 ? true : undefined));
    const target = to(port);
    const argv = [process.execPath, attackerFile, 'silent', target.ip, String(port), String(attackers), ''];
    await using attacker = await mesh.lab.host('stranger').spawn(argv);
    await attacker.waitForLine(/^started$/, 60_000);
    await waitUntil('many are held', () => (held() > 200 ? true : undefined));
    const startedAtMs = performance.now();
    await mesh.pool('node2').drain(0);
    const tookMs = performance.now() - startedAtMs;
    assert.ok(tookMs < patientMs(3000), `${tookMs} ms`);
  });
});
