import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import type { Lab } from '../../lab/lab.js';
import { createLab } from '../../lab/lab.js';
import type { LabNode } from '../../lab/lab-node.js';
import type { LabTopology } from '../../lab/topology.js';
import { patientMs } from '../../lab/patience.js';

const topology: LabTopology = {
  hasController: true,
  externalHosts: ['legacy'],
  hosts: [
    {
      name: 'node1',
      workloads: [
        { name: 'web', namespace: 'shop', serviceAccount: 'web' },
        { name: 'api', namespace: 'shop', serviceAccount: 'api' },
      ],
    },
    { name: 'node2', workloads: [{ name: 'cache', namespace: 'shop', serviceAccount: 'cache' }] },
  ],
  services: [{ name: 'redis', namespace: 'shop', ports: [{ port: 6379 }], selector: { app: 'cache' } }],
};

describe('the network of a lab', { timeout: patientMs(60_000) }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab(topology);
  });
  after(() => lab.close());

  const roads: readonly [what: string, from: (l: Lab) => LabNode, to: (l: Lab) => LabNode][] = [
    ['a workload to one on another host', (l) => l.workload('web'), (l) => l.workload('cache')],
    ['a workload back to one on the first host', (l) => l.workload('cache'), (l) => l.workload('web')],
    ['a workload to one on its own host', (l) => l.workload('web'), (l) => l.workload('api')],
    ['a workload to itself', (l) => l.workload('web'), (l) => l.workload('web')],
    ['a host to its own workload', (l) => l.host('node1'), (l) => l.workload('web')],
    ['a workload to its host', (l) => l.workload('web'), (l) => l.host('node1')],
    ['a host to a workload of another', (l) => l.host('node2'), (l) => l.workload('web')],
    ['a workload to the controller', (l) => l.workload('cache'), (l) => l.host('controller')],
    ['the controller to a workload', (l) => l.host('controller'), (l) => l.workload('cache')],
    ['an external host to a workload', (l) => l.host('legacy'), (l) => l.workload('cache')],
    ['a workload to an external host', (l) => l.workload('cache'), (l) => l.host('legacy')],
  ];
  for (const family of ['ipv4', 'ipv6'] as const) {
    for (const [what, from, to] of roads) {
      it(`carries ${family} from ${what}, and keeps the source address`, async () => {
        const [client, server] = [from(lab), to(lab)];
        await using echo = await server.listen({}, (socket) => socket.pipe(socket));
        const accepted = once(echo.server, 'connection') as Promise<[Socket]>;
        const socket = await client.connect({ ip: server[family], port: echo.port });
        socket.write('there and back');
        assert.equal(String((await once(socket, 'data'))[0]), 'there and back');
        const [serverSide] = await accepted;
        assert.equal(serverSide.remoteAddress?.replace('::ffff:', ''), client[family]);
        socket.destroy();
      });
    }
  }

  it('refuses a port where nothing listens and leaves service addresses unanswered', async () => {
    const web = lab.workload('web');
    const target = lab.workload('cache');
    await assert.rejects(web.connect({ ip: target.ipv4, port: 9 }), { code: 'ECONNREFUSED' });
    await assert.rejects(web.connect({ ip: target.ipv6, port: 9 }), { code: 'ECONNREFUSED' });
    await assert.rejects(web.connect({ ip: lab.vip('redis').ipv4, port: 6379 }), { code: 'ENETUNREACH' });
    await assert.rejects(web.connect({ ip: lab.vip('redis').ipv6, port: 6379 }), { code: 'ENETUNREACH' });
    await assert.rejects(web.connect({ ip: 'cache', port: 9 }), { code: 'LAB_ADDRESS' });
  });

  it('routes service addresses and TEST-NET out of the workload, where they can be captured', async () => {
    for (const address of [lab.vip('redis').ipv4, lab.vip('redis').ipv6, '192.0.2.1', '2001:db8::1']) {
      assert.match(await lab.workload('web').check(['ip', 'route', 'get', address]), / dev eth0 /);
    }
  });

  it('resolves names in every node, and fails at once for one that is not there', async () => {
    const { ipv4, ipv6 } = lab.workload('cache');
    for (const node of [lab.workload('web'), lab.host('node1'), lab.host('legacy')]) {
      const all = await node.check(['getent', 'ahosts', 'cache.shop']);
      assert.ok(all.includes(`${ipv4} `) && all.includes(`${ipv6} `), all);
    }
    const absent = await lab.workload('web').exec(['getent', 'ahosts', 'absent.shop'], { timeoutMs: 3000 });
    assert.equal(absent.code, 2);
  });

  it('stands beside a second lab with the same addresses without being heard there', async () => {
    await using second = await createLab(topology);
    assert.notEqual(second.prefix, lab.prefix);
    const answers = await Promise.all([lab, second].map(answerAcrossHosts));
    assert.deepEqual(answers, [lab.prefix, second.prefix]);
  });

  it('runs programs with input, a time limit and an environment', async () => {
    const web = lab.workload('web');
    assert.equal(await web.check(['cat'], { input: 'through cat' }), 'through cat');
    assert.equal(await web.check(['sh', '-c', 'echo $GREETING'], { env: { GREETING: 'hello' } }), 'hello\n');
    assert.equal((await web.exec(['sh', '-c', 'exit 7'])).code, 7);
    await assert.rejects(web.exec(['sleep', '60'], { timeoutMs: 50 }), { code: 'COMMAND_TIMEOUT' });
    await assert.rejects(web.check(['sh', '-c', 'echo why >&2; exit 1']), { code: 'COMMAND_FAILED', message: /why/ });
  });

  it('says what it knows when a name is not in the topology', () => {
    assert.throws(() => lab.workload('wbe'), { code: 'LAB_NAME', hint: /did you mean "web"\?/ });
    assert.throws(() => lab.host('node3'), { code: 'LAB_NAME' });
    assert.throws(() => lab.vip('mysql'), { code: 'LAB_NAME' });
  });
});

/** What a listener of this lab answers, who says its prefix. */
async function answerAcrossHosts(lab: Lab): Promise<string> {
  await using server = await lab.workload('cache').listen({ port: 7000 }, (socket) => socket.end(lab.prefix));
  const socket = await lab.workload('web').connect({ ip: lab.workload('cache').ipv4, port: server.port });
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return answer.toString();
}
