import assert from 'node:assert/strict';
import { formatRuleRef } from '../../../../shared/policy/connection.js';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { plainRule, type CompiledRule, type Snapshot } from '../../../../shared/policy/snapshot.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { waitUntil } from '../../../lab/wait-until.js';
import {
  errorOf,
  exchange,
  greetAndEcho,
  inbound,
  outbound,
  refusal,
  ruleOf,
} from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { patientSignal } from '../../../lab/patience.js';
import { patientMs } from '../../../lab/patience.js';

const port = 8080;

function rule(name: string, action: CompiledRule['action'], init: Partial<CompiledRule>): CompiledRule {
  const web = { from: [{ labels: { app: 'web' } }], to: [{ labels: { app: 'db' } }], ports: [] };
  return { ...plainRule, ...web, name, tier: 'team', priority: 1, action, mode: 'enforce', ...init };
}

describe('an open connection that a rule begins to deny', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  let server: LabServer;
  let revision = 1;

  async function openToDb(): Promise<Socket> {
    const socket = await mesh.workload('web').connect({ ip: mesh.workload('db').ipv4, port });
    await once(socket, 'data');
    return socket;
  }

  /** Bytes there and back on a connection that stays open. */
  async function echo(socket: Socket, text: string): Promise<string> {
    socket.write(text);
    const [chunk] = (await once(socket, 'data', { signal: patientSignal(20_000) })) as [Buffer];
    return chunk.toString();
  }

  async function rules(...compiled: CompiledRule[]): Promise<void> {
    revision += 1;
    await mesh.apply(allowAll({ revision, rules: compiled }));
  }

  /** What the dumps of a host say of connections that live on. */
  async function graces(host: string): Promise<string[]> {
    const dumps = await mesh.pool(host).dump();
    return dumps.flatMap(({ connections }) =>
      connections.flatMap(({ grace }) => (grace === undefined ? [] : [`${grace.kind} ${grace.deniedBy}`])),
    );
  }

  before(async () => {
    const workload = (name: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app: name } });
    mesh = await DataplaneMesh.start({
      hosts: [
        { name: 'node1', workloads: [workload('web')] },
        { name: 'node2', workloads: [workload('db')] },
      ],
    });
    server = await mesh.workload('db').listen({ port }, greetAndEcho);
  });

  after(async () => {
    await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  afterEach(async () => {
    await rules();
    for (const host of ['node1', 'node2']) mesh.takeUnclaimed(host);
  });

  test('lives on under onChange: keep, is counted, and ends with the rule that let it in', async () => {
    await rules(rule('let-in', 'allow', {}));
    const socket = await openToDb();
    await rules(rule('no-db', 'deny', { onChange: { kind: 'keep' } }));
    assert.equal(await echo(socket, 'still'), 'still');
    for (const host of ['node1', 'node2']) {
      assert.deepEqual(await graces(host), ['kept SegmentationRule/no-db']);
    }
    const gauges = await new Promise<{ keptConnections: number }>((resolve) => {
      mesh.pool('node1').once('report', (report) => resolve(report.gauges));
    });
    assert.equal(gauges.keptConnections, 1);
    await exchange(socket, 'end');
    const record = await mesh.closed('node1', outbound);
    assert.deepEqual([record.reason, ruleOf(record)], ['OK', 'SegmentationRule/let-in']);
    // The next test must not find the record of this one.
    await mesh.closed('node2', inbound);
  });

  test('lives for its grace under onChange: drain, and is cut with the rule', async () => {
    const socket = await openToDb();
    const startedMs = performance.now();
    await rules(rule('no-db', 'deny', { onChange: { kind: 'drain', graceMs: 1500 } }));
    assert.equal(await echo(socket, 'still'), 'still');
    assert.deepEqual(await graces('node2'), ['draining SegmentationRule/no-db']);
    assert.equal(await errorOf(socket), 'ECONNRESET');
    assert.ok(performance.now() - startedMs >= 1500);
    for (const record of [await mesh.closed('node1', outbound), await mesh.closed('node2', inbound)]) {
      assert.deepEqual([record.reason, ruleOf(record)], ['POLICY_TERMINATED', 'SegmentationRule/no-db']);
      assert.equal(record.revision, revision);
    }
  });

  test('is spared when a later revision allows it before its grace is over', async () => {
    const socket = await openToDb();
    await rules(rule('no-db', 'deny', { onChange: { kind: 'drain', graceMs: 2000 } }));
    await rules();
    await waitUntil('no grace', async () => ((await graces('node1')).length === 0 ? true : undefined));
    const overMs = performance.now() + 2200;
    await waitUntil('the time of the cut', () => (performance.now() > overMs ? true : undefined));
    assert.equal(await exchange(socket, 'spared'), 'spared');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'OK');
    await mesh.closed('node2', inbound);
  });

  test('is cut when the rule that allows it expires, without a new revision, and new ones are told so', async () => {
    const expiresAtMs = Date.now() + 2500;
    await rules(rule('for-a-moment', 'allow', { expiresAtMs }), rule('no-db', 'deny', { priority: 2 }));
    const socket = await openToDb();
    assert.equal(await errorOf(socket), 'ECONNRESET');
    // No revision came meanwhile, so only the clock can have cut it; how soon is for the benchmark to say.
    assert.ok(Date.now() >= expiresAtMs);
    for (const record of [await mesh.closed('node1', outbound), await mesh.closed('node2', inbound)]) {
      assert.deepEqual([record.reason, ruleOf(record)], ['POLICY_TERMINATED', 'SegmentationRule/for-a-moment']);
      assert.equal(record.revision, revision);
      assert.match(record.detail, /^POLICY_EXPIRED/);
    }
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('db').ipv4, port }), 'ECONNRESET');
    const refused = await mesh.closed('node1', outbound);
    assert.deepEqual([refused.reason, ruleOf(refused)], ['POLICY_EXPIRED', 'SegmentationRule/for-a-moment']);
  });

  test('is cut when a rule that denies it becomes valid', async () => {
    await rules(rule('no-db-soon', 'deny', { validFromMs: Date.now() + 2500 }));
    const socket = await openToDb();
    assert.equal(await errorOf(socket), 'ECONNRESET');
    assert.equal(ruleOf(await mesh.closed('node2', inbound)), 'SegmentationRule/no-db-soon');
  });
});

describe('traffic to what is outside the mesh', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  let server: LabServer;
  let revision = 1;

  async function outboundIs(setting: Snapshot['mesh']['outbound'], init: Partial<Snapshot> = {}): Promise<void> {
    revision += 1;
    const settings = { defaultAction: 'deny', outbound: setting, mtls: 'STRICT', rootNamespace: 'root' } as const;
    await mesh.apply(allowAll({ revision, mesh: settings, ...init }));
  }

  before(async () => {
    mesh = await DataplaneMesh.start({
      hosts: [
        {
          name: 'node1',
          workloads: [
            { name: 'web', namespace: 'shop', serviceAccount: 'web', labels: { app: 'web' } },
            { name: 'outside', namespace: 'none', serviceAccount: 'none', isMeshed: false },
          ],
        },
      ],
    });
    server = await mesh.workload('outside').listen({ port }, greetAndEcho);
    const key = `workload.${mesh.workload('outside').meshName.replace('/', '.')}`;
    mesh.sendRegistry([], false, [key]);
  });

  after(async () => {
    await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  test('passes and is audited, is refused, and passes again when a ServiceEntry and a rule name it', async () => {
    const { ipv4 } = mesh.workload('outside');
    await outboundIs('audit');
    assert.match(await exchange(await mesh.workload('web').connect({ ip: ipv4, port }), 'hello'), /hello$/);
    const audited = await mesh.closed('node1', outbound);
    assert.deepEqual(
      [audited.path, audited.audited.map(formatRuleRef), audited.service],
      ['passthrough', ['Mesh/default'], null],
    );

    const open = await mesh.workload('web').connect({ ip: ipv4, port });
    await once(open, 'data');
    await outboundIs('deny');
    assert.equal(await errorOf(open), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'POLICY_TERMINATED');
    assert.equal(await refusal(mesh.workload('web'), { ip: ipv4, port }), 'ECONNRESET');
    const refused = await mesh.closed('node1', outbound);
    assert.deepEqual([refused.reason, ruleOf(refused)], ['POLICY_DEFAULT_DENY', 'Mesh/default']);

    const external = { name: 'shop/partner', hosts: ['partner.example'], cidrs: [`${ipv4}/32`], ports: [] };
    const allow = rule('partner', 'allow', { to: [{ cidrs: [`${ipv4}/32`] }] });
    await outboundIs('deny', { externals: [external], rules: [allow] });
    assert.match(await exchange(await mesh.workload('web').connect({ ip: ipv4, port }), 'hello'), /hello$/);
    const named = await mesh.closed('node1', outbound);
    assert.deepEqual([ruleOf(named), named.service], ['SegmentationRule/partner', 'shop/partner']);
  });

  test('is audited for the sources that a rule is not rolled out to', async () => {
    const { ipv4 } = mesh.workload('outside');
    const noOut = { to: [{ external: true }], rollout: 0 } as const;
    await outboundIs('allow', { rules: [rule('no-out', 'deny', noOut)] });
    assert.match(await exchange(await mesh.workload('web').connect({ ip: ipv4, port }), 'hello'), /hello$/);
    const { audited } = await mesh.closed('node1', outbound);
    assert.deepEqual(audited.map(formatRuleRef), ['SegmentationRule/no-out']);
    await outboundIs('allow', { rules: [rule('no-out', 'deny', { ...noOut, rollout: 100 })] });
    assert.equal(await refusal(mesh.workload('web'), { ip: ipv4, port }), 'ECONNRESET');
    assert.equal(ruleOf(await mesh.closed('node1', outbound)), 'SegmentationRule/no-out');
  });
});
