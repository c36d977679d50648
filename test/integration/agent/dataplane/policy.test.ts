import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { plainRule, type CompiledRule } from '../../../../shared/policy/snapshot.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
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
import { patientMs } from '../../../lab/patience.js';

const port = 8080;

function deny(name: string, from: CompiledRule['from'], to: CompiledRule['to'] = []): CompiledRule {
  return { name, tier: 'team', priority: 1, action: 'deny', mode: 'enforce', from, to, ports: [], ...plainRule };
}

describe('the rules of the data plane', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  let revision = 1;
  const servers: LabServer[] = [];

  /** Opens a connection that has carried bytes both ways. */
  async function openTo(name: string): Promise<Socket> {
    const socket = await mesh.workload('web').connect({ ip: mesh.workload(name).ipv4, port });
    await once(socket, 'data');
    return socket;
  }

  let inForce: readonly CompiledRule[] = [];

  async function rules(...compiled: readonly CompiledRule[]): Promise<void> {
    inForce = compiled;
    revision += 1;
    await mesh.apply(allowAll({ revision, rules: compiled }));
  }

  /** Every worker has what was sent until now: it enforces the same rules again, which were sent after that. */
  const taken = (): Promise<void> => rules(...inForce);

  before(async () => {
    mesh = await DataplaneMesh.start({
      hosts: [
        {
          name: 'node1',
          workloads: [
            { name: 'web', namespace: 'shop', serviceAccount: 'web', labels: { app: 'web' } },
            { name: 'side', namespace: 'shop', serviceAccount: 'side', labels: { app: 'side' } },
          ],
        },
        {
          name: 'node2',
          workloads: [
            { name: 'db', namespace: 'shop', serviceAccount: 'db', labels: { app: 'db' } },
            { name: 'db2', namespace: 'shop', serviceAccount: 'db', labels: { app: 'db' } },
          ],
        },
      ],
      services: [{ name: 'db', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'db' } }],
    });
    for (const name of ['web', 'side', 'db', 'db2']) {
      servers.push(await mesh.workload(name).listen({ port }, greetAndEcho));
    }
  });

  after(async () => {
    for (const server of servers) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  afterEach(async () => {
    await rules();
    mesh.sendRegistry([...mesh.entries.values()], true);
    await taken();
  });

  test('refuse early, at the source, with the rule in the record', async () => {
    await rules(deny('no-web', [{ labels: { app: 'web' } }]));
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('db').ipv4, port }), 'ECONNRESET');
    const record = await mesh.closed('node1', outbound);
    assert.deepEqual([record.reason, ruleOf(record), record.path], ['POLICY_DENY', 'SegmentationRule/no-web', 'none']);
    assert.equal(record.revision, revision);
    assert.equal(mesh.unclaimed('node2').length, 0);
  });

  test('refuse at the destination too, and both ends name the same reason and rule', async () => {
    revision += 1;
    const snapshot = allowAll({ revision, rules: [deny('only-there', [{ serviceAccounts: ['shop/web'] }])] });
    const applied = once(mesh.pool('node2'), 'applied');
    mesh.pool('node2').send({ type: 'rules', snapshot });
    await applied;
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('db').ipv4, port }), 'ECONNRESET');
    const out = await mesh.closed('node1', outbound);
    const into = await mesh.closed('node2', inbound);
    for (const record of [out, into]) {
      assert.deepEqual([record.reason, ruleOf(record)], ['POLICY_DENY', 'SegmentationRule/only-there']);
    }
    assert.equal(out.traceId, into.traceId);
  });

  test('do not make a denied connection try another endpoint', async () => {
    await rules(deny('no-db', [], [{ workloads: ['shop/db'] }]));
    const outcomes: string[] = [];
    for (let i = 0; i < 2; i++) {
      const socket = mesh.workload('web').connect({ ip: mesh.lab.vip('db').ipv4, port: 80 });
      await socket.then((open) => exchange(open, 'x')).catch(() => '');
      outcomes.push((await mesh.closed('node1', outbound)).reason);
    }
    assert.deepEqual(outcomes.toSorted(), ['OK', 'POLICY_DENY']);
    await mesh.closed('node2', inbound);
  });

  test('cut an open connection that a change forbids, and both ends say so', async () => {
    const cut = await openTo('db');
    const kept = await openTo('side');
    await rules(deny('no-db', [{ labels: { app: 'web' } }], [{ labels: { app: 'db' } }]));
    assert.equal(await errorOf(cut), 'ECONNRESET');
    for (const record of [await mesh.closed('node1', outbound), await mesh.closed('node2', inbound)]) {
      assert.deepEqual([record.reason, ruleOf(record)], ['POLICY_TERMINATED', 'SegmentationRule/no-db']);
      assert.equal(record.revision, revision);
    }
    assert.equal(await exchange(kept, 'still'), 'still');
    await mesh.closed('node1', outbound);
  });

  test('are evaluated again when the labels of a workload change', async () => {
    await rules(deny('no-quarantined', [{ labels: { app: 'quarantined' } }]));
    const socket = await openTo('db');
    mesh.sendRegistry([{ ...mesh.entry('web'), labels: { app: 'quarantined' } }]);
    assert.equal(await errorOf(socket), 'ECONNRESET');
    const record = await mesh.closed('node1', outbound);
    assert.deepEqual([record.reason, ruleOf(record)], ['POLICY_TERMINATED', 'SegmentationRule/no-quarantined']);
    assert.equal((await mesh.closed('node2', inbound)).reason, 'POLICY_TERMINATED');
  });

  test('cut connections of a workload that is no longer registered as CERT_REVOKED', async () => {
    const socket = await openTo('db');
    mesh.sendRegistry([], false, ['workload.shop.web']);
    assert.equal(await errorOf(socket), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'CERT_REVOKED');
    assert.equal((await mesh.closed('node2', inbound)).reason, 'CERT_REVOKED');
  });

  test('refuse an address whose registry entry cannot be read, and cut what is open to it', async () => {
    const socket = await openTo('db');
    const { ipv4: ip } = mesh.workload('db');
    const change = { type: 'registry', isFull: false, upserts: [], removals: [] } as const;
    mesh.pool('node1').send({ ...change, unreadable: new Map([[ip, 'workload.shop.newer']]) });
    assert.equal(await errorOf(socket), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'REGISTRY_UNREADABLE');
    await mesh.closed('node2', inbound);
    assert.equal(await refusal(mesh.workload('web'), { ip, port }), 'ECONNRESET');
    const { reason, detail } = await mesh.closed('node1', outbound);
    assert.equal(reason, 'REGISTRY_UNREADABLE');
    assert.match(detail ?? '', /workload\.shop\.newer.*upgrade the agent/);
    mesh.pool('node1').send({ ...change, unreadable: new Map() });
    await taken();
    assert.match(await exchange(await openTo('db'), 'read'), /read$/);
    for (const record of [await mesh.closed('node1', outbound), await mesh.closed('node2', inbound)]) {
      assert.equal(record.reason, 'OK');
    }
  });

  test('refuse what a workload of this node sends whose own registry entry cannot be read', async () => {
    const { ipv4: ip } = mesh.workload('web');
    const change = { type: 'registry', isFull: false, upserts: [], removals: [] } as const;
    const unreadable = new Map([[ip, 'workload.shop.web']]);
    mesh.pool('node1').send({ ...change, removals: ['workload.shop.web'], unreadable });
    await taken();
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('db').ipv4, port }), 'ECONNRESET');
    const { reason, detail } = await mesh.closed('node1', outbound);
    assert.equal(reason, 'REGISTRY_UNREADABLE');
    assert.match(detail ?? '', /shop\/web.*upgrade the agent/);
    mesh.pool('node1').send({ ...change, upserts: [mesh.entry('web')], unreadable: new Map() });
    await taken();
    assert.match(await exchange(await openTo('db'), 'read'), /read$/);
    for (const record of [await mesh.closed('node1', outbound), await mesh.closed('node2', inbound)]) {
      assert.equal(record.reason, 'OK');
    }
  });

  test('refuse a source that only the other agent knows, after one more try', async () => {
    mesh.pool('node2').send({ type: 'registry', isFull: false, upserts: [], removals: ['workload.shop.web'] });
    await taken();
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('db').ipv4, port }), 'ECONNRESET');
    const out = await mesh.closed('node1', outbound);
    assert.equal(out.reason, 'SOURCE_UNKNOWN');
    for (let i = 0; i < 2; i++) {
      const into = await mesh.closed('node2', inbound);
      assert.deepEqual([into.reason, into.traceId], ['SOURCE_UNKNOWN', out.traceId]);
    }
  });

  test('wait for a registry that is behind', async () => {
    mesh.pool('node2').send({ type: 'registry', isFull: false, upserts: [], removals: ['workload.shop.web'] });
    await taken();
    const connecting = mesh.workload('web').connect({ ip: mesh.workload('db').ipv4, port });
    assert.equal((await mesh.closed('node2', inbound)).reason, 'SOURCE_UNKNOWN');
    mesh.sendRegistry([mesh.entry('web')]);
    assert.match(await exchange(await connecting, 'late'), /late$/);
    assert.equal((await mesh.closed('node1', outbound)).reason, 'OK');
    assert.equal((await mesh.closed('node2', inbound)).reason, 'OK');
  });

  test('let nothing pass without a certificate, and cut what was open', async () => {
    const { identity } = mesh.entry('web');
    const open = await openTo('side');
    mesh.pool('node1').send(await mesh.certificates('node1', { except: identity }));
    assert.equal(await errorOf(open), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'CERT_REVOKED');
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('side').ipv4, port }), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'NO_RULES_YET');
    mesh.pool('node1').send(await mesh.certificates('node1'));
    await taken();
    assert.match(await exchange(await openTo('side'), 'again'), /again$/);
    await mesh.closed('node1', outbound);
  });

  test('that are too old let nothing new pass, and open connections go on', async () => {
    const open = await openTo('side');
    mesh.pool('node1').send({ type: 'rulesAge', tooOld: 'not confirmed' });
    await taken();
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('side').ipv4, port }), 'ECONNRESET');
    const { reason, detail } = await mesh.closed('node1', outbound);
    assert.deepEqual([reason, detail], ['RULES_TOO_OLD', 'not confirmed']);
    assert.match(await exchange(open, 'goes on'), /goes on$/);
    mesh.pool('node1').send({ type: 'rulesAge', tooOld: null });
    await taken();
    assert.match(await exchange(await openTo('side'), 'again'), /again$/);
    await mesh.closed('node1', outbound);
    open.destroy();
    await mesh.closed('node1', outbound);
  });

  test('of which a broken revision is refused whole, while the last good one stays in force', async () => {
    await rules(deny('no-db', [], [{ labels: { app: 'db' } }]));
    const broken = allowAll({ revision: revision + 1, rules: [deny('bad', [{ cidrs: ['not a network'] }])] });
    assert.throws(() => mesh.pool('node1').send({ type: 'rules', snapshot: broken }), { code: 'SNAPSHOT_INVALID' });
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('db').ipv4, port }), 'ECONNRESET');
    assert.equal(ruleOf(await mesh.closed('node1', outbound)), 'SegmentationRule/no-db');
  });
});
