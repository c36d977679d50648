import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { startNginx, startRedis, startSshd } from '../../lab/applications.js';
import type { Lab } from '../../lab/lab.js';
import { createLab } from '../../lab/lab.js';
import { defaultTopology } from '../../lab/topology.js';
import { patientMs } from '../../lab/patience.js';

describe('an unmodified application in a workload', { timeout: patientMs(60_000) }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab(defaultTopology);
  });
  after(() => lab.close());

  it('is redis, and answers a client on another host by name and over IPv6', async () => {
    await using redis = await startRedis({ lab, at: lab.workload('cache') });
    const client = ['redis-cli', '-p', String(redis.port), '-h'];
    const web = lab.workload('web');
    assert.equal(await web.check([...client, 'cache', 'set', 'key', 'value']), 'OK\n');
    assert.equal(await web.check([...client, lab.workload('cache').ipv6, 'get', 'key']), 'value\n');
  });

  it('is nginx, and serves its page over IPv4 and IPv6', async () => {
    await using nginx = await startNginx({ lab, at: lab.workload('site'), page: 'the page' });
    for (const family of ['-4', '-6']) {
      const url = `http://site.shop:${nginx.port}/`;
      assert.equal(await lab.workload('web').check(['curl', '-sS', family, '-m', '5', url]), 'the page');
    }
  });

  it('is sshd, which speaks first and lets its client in', async () => {
    await using sshd = await startSshd({ lab, at: lab.workload('bastion') });
    const socket = await lab.workload('web').connect({ ip: lab.workload('bastion').ipv4, port: sshd.port });
    assert.match(String((await once(socket, 'data'))[0]), /^SSH-2\.0-/);
    socket.destroy();
    assert.equal(await lab.workload('web').check(sshd.clientArgv('bastion', ['echo', 'inside'])), 'inside\n');
  });

  it('stops when it is told to, and its port is free again', async () => {
    const at = lab.workload('site');
    for (let round = 0; round < 2; round++) {
      const nginx = await startNginx({ lab, at });
      await nginx.stop();
      await assert.rejects(lab.workload('web').connect({ ip: at.ipv4, port: nginx.port }), { code: 'ECONNREFUSED' });
    }
  });

  it('says why it did not start', async () => {
    const at = lab.workload('cache');
    await using taken = await at.listen({ port: 6379 }, () => {});
    await assert.rejects(startRedis({ lab, at, port: taken.port }), {
      code: 'LAB_PROCESS_ENDED',
      message: /Address already in use/,
    });
  });
});
