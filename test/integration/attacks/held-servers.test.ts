import assert from 'node:assert/strict';
import path from 'node:path';
import process from 'node:process';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { HttpEndpoint } from '../../../agent/admin/http-endpoint.js';
import type { ConnectionCut } from '../../../shared/http/bounded-server.js';
import { LabProcess } from '../../lab/lab-process.js';
import { parseMetrics } from '../../lab/metric-samples.js';
import { waitUntil } from '../../lab/wait-until.js';
import { reportOf } from '../../support/mesh/attacker-report.js';
import {
  callApi,
  silentLog,
  startedController,
  temporaryDirectory,
} from '../../support/controller/controller-fixture.js';
import { ready, spawnedController } from '../../support/controller/controller-process.js';
import { holdConnections } from '../../support/http/held-connections.js';
import { listeningEndpoint } from '../../support/agent/listening-endpoint.js';

/**
 * Someone opens connections and asks for nothing, or slowly. A server that lets them keep its places answers no one else; here
 * they are of the same source as the honest client, which is the hardest case.
 */

async function endpoint(onCut: (why: ConnectionCut) => void = () => undefined): Promise<HttpEndpoint> {
  return listeningEndpoint({
    routes: { 'GET /healthz': () => ({ status: 200, body: 'ok' }) },
    log: silentLog,
    onCut,
  });
}

async function probe({ port }: HttpEndpoint): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${port}/healthz`);
  return await answer.text();
}

describe('a probe of an endpoint is answered', () => {
  for (const { kind, count } of [
    { kind: 'silent', count: 80 },
    { kind: 'silent', count: 600 },
    { kind: 'slow', count: 300 },
  ] as const) {
    test(`while ${count} ${kind} connections are held`, async () => {
      let cuts = 0;
      await using attacked = await endpoint(() => cuts++);
      await using _ = await holdConnections({ port: attacked.port, count, kind });
      for (let round = 0; round < 100; round++) assert.equal(await probe(attacked), 'ok', `probe ${round}`);
      assert.ok(cuts > 0, 'some had to go');
    });
  }
});

for (const kind of ['silent', 'spoken'] as const) {
  test(`a probe is answered while 2,000 ${kind} connections are opened again at once, and they end at a pace`, async (t) => {
    await using attacked = await endpoint();
    await using attacker = await LabProcess.start([
      process.execPath,
      fileURLToPath(new URL('../../bench/load/attacker.js', import.meta.url)),
      ...[kind, '127.0.0.1', attacked.port, 2000, ''].map(String),
    ]);
    await attacker.waitForLine(/^started$/, 60_000);
    const [startedAtMs, before] = [performance.now(), reportOf(attacker).connections];
    for (let round = 0; round < 50; round++) {
      assert.equal(await probe(attacked), 'ok', `probe ${round}`);
      await pause(20);
    }
    const perSecond = (reportOf(attacker).connections - before) / ((performance.now() - startedAtMs) / 1000);
    t.diagnostic(`${perSecond.toFixed(0)} end in a second`);
    assert.ok(perSecond < 600, `${perSecond} end in a second`);
  });
}

describe('the API of the controller', () => {
  /** The 99th percentile of each, of calls that take turns, so that what else the machine does is the same for both. */
  async function p99(calls: readonly (() => Promise<unknown>)[], rounds: number): Promise<number[]> {
    const taken: number[][] = calls.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [index, call] of calls.entries()) {
        const startedAtMs = performance.now();
        await call();
        taken[index]?.push(performance.now() - startedAtMs);
      }
    }
    return taken.map((all) => all.sort((a, b) => a - b)[Math.floor(all.length * 0.99)] ?? Number.NaN);
  }

  test('answers every command while 3,500 silent connections are held, and counts what it cut', async (t) => {
    await using directory = await temporaryDirectory();
    await using one = await spawnedController(path.join(directory.path, 'one'));
    await using two = await spawnedController(path.join(directory.path, 'two'));
    const [attacked, left] = await Promise.all([one.access(), two.access()]);
    await Promise.all([ready(attacked), ready(left)]);
    const calls = [attacked, left].map((access) => async () => {
      assert.equal((await callApi(access, 'GET', '/v1/history')).status, 200);
    });
    await p99(calls, 50);
    await using _ = await holdConnections({ port: Number(new URL(attacked.url).port), count: 3500, kind: 'silent' });
    const [attackedMs, leftMs] = await p99(calls, 150);
    // Not asserted: opening the connections again takes a share of the machine that depends on its load.
    t.diagnostic(`p99 with the attack ${attackedMs?.toFixed(1)} ms, without ${leftMs?.toFixed(1)} ms`);
    assert.ok((await cutBy(attacked, 'source')) >= 3500 - 256);
    assert.equal(await cutBy(left, 'source'), 0);
  });

  test('answers while 300 clients send their requests a byte a second, and cuts them', async () => {
    await using directory = await temporaryDirectory();
    await using controller = await startedController(directory.path);
    await using _ = await holdConnections({ port: controller.port, count: 300, kind: 'slow-tls' });
    for (let round = 0; round < 20; round++) {
      assert.equal((await callApi(controller, 'GET', '/readyz', { token: null })).status, 200);
    }
    await waitUntil('slow ones are cut', async () =>
      (await cutBy(controller, 'slow_request')) > 0 ? true : undefined,
    );
  });
});

async function cutBy(controller: Parameters<typeof callApi>[0], why: ConnectionCut): Promise<number> {
  const { text } = await callApi(controller, 'GET', '/metrics', { token: null });
  const sample = parseMetrics(text).find(
    ({ name, labels }) => name === 'culvert_controller_connections_cut_total' && labels['why'] === why,
  );
  return sample?.value ?? Number.NaN;
}
