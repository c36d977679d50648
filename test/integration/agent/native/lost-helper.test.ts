import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { ownTrafficMark } from '../../../../agent/ports.js';
import { askWithHelper } from '../../../support/agent/confined-process.js';

/** Sockets to dial with are made ahead, several with one request to the helper. What of it when that cannot go on? */

const name = `lhp${randomBytes(3).toString('hex')}`;
const netnsPath = `/run/netns/${name}`;
before(() => execFileSync('sh', ['-ec', `ip netns add ${name}; ip -n ${name} link set lo up`]));
after(() => execFileSync('ip', ['netns', 'del', name]));

const dataplane = new URL('../../../../agent/dataplane/', import.meta.url).href;
/** What the questions have in common. The descriptors of the agent's own reserve are not what is tested. */
const common = `
  const net = await import('node:net');
  const { once } = await import('node:events');
  const { HostedWorkload } = await import('${dataplane}listen/hosted-workload.js');
  const { DescriptorReserve } = await import('${dataplane}sockets/descriptor-reserve.js');
  const descriptors = new DescriptorReserve({ limit: 65_536 });
  const open = (pid = 'self') => fs.readdirSync('/proc/' + pid + '/fd').length;
  const limit = (pid, descriptors) => cp.execFileSync('prlimit', ['--pid', String(pid), '--nofile=' + descriptors + ':4096']);
  const hosted = () => HostedWorkload.open({ name: 'test/dials', netnsPath: '${netnsPath}', netnsInode: netns.inode, slot: 0 });
  const makeSpare = (count) => addon.spareSockets({ family: 4, mark: ${ownTrafficMark}, netnsFd: netns.fd, count });
  const outcomeOf = (step) => { try { return step(); } catch (error) { return error.code + ' ' + error.message; } };
  // The helper closes its copies after its answer, and reads the next question after that.
  const settle = () => helper.pingHelper();
  const made = (count) => outcomeOf(() => { const fds = makeSpare(count); for (const fd of fds) addon.closeFd(fd); return fds.length; });`;

async function answer(body: string): Promise<Record<string, unknown>> {
  const found = await askWithHelper({ it: `(async () => {${common}${body}})()` }, netnsPath);
  assert.equal(found['it']?.code, undefined, found['it']?.message);
  return found['it']?.value as Record<string, unknown>;
}

test('sockets that are ready when the helper is killed can be dialled with, then dials are refused, and none is left open', async () => {
  const found = await answer(`
    const before = open();
    const workload = hosted();
    const fd = addon.listenTcp({ netnsFd: netns.fd, host: '127.0.0.1', port: 15_008, backlog: 16, reusePort: false });
    const server = net.createServer((socket) => socket.destroy()).listen({ fd });
    await once(server, 'listening');
    // Of the batches of 1, 2 and 4.
    for (let dial = 0; dial < 4; dial++) addon.closeFd(workload.dialSocket(4, descriptors));
    process.kill(child.pid, 'SIGKILL');
    await once(child, 'exit');
    const outcomes = [];
    for (let dial = 0; dial < 5; dial++) {
      try {
        const fd = workload.dialSocket(4, descriptors);
        addon.aimSpare(fd, 4, {});
        const socket = new net.Socket({ fd, manualStart: true });
        socket.on('error', () => undefined).connect({ host: '127.0.0.1', port: 15_008 });
        await once(socket, 'connect');
        socket.destroy();
        await once(socket, 'close');
        outcomes.push('connected');
      } catch (error) {
        outcomes.push(error.code);
      }
    }
    const ping = outcomeOf(() => helper.pingHelper());
    workload.close();
    server.close();
    await once(server, 'close');
    return { outcomes, ping, leaked: open() - before, spares: descriptors.setAside(1000) };`);
  assert.deepEqual(found['outcomes'], ['connected', 'connected', 'connected', 'EPIPE', 'EPIPE']);
  assert.match(String(found['ping']), /^EPIPE .*ask the privileged helper, which has ended/);
  assert.deepEqual([found['leaked'], found['spares']], [-1, 256], 'the channel is closed, and all else as before');
});

describe('with few descriptors left', () => {
  test('a helper makes as many sockets as it can, or says why it makes none', async () => {
    const found = await answer(`
      made(1);
      settle();
      const before = open(child.pid);
      const taken = new Set(fs.readdirSync('/proc/' + child.pid + '/fd').map(Number));
      const limitWith = (free) => {
        let limit = 0;
        for (let found = 0; found < free; limit++) if (!taken.has(limit)) found++;
        return limit;
      };
      const results = [];
      // The request itself brings one.
      for (const free of [1, 2, 4, 17]) {
        limit(child.pid, limitWith(free));
        results.push(made(16));
        settle();
      }
      return { results, leaked: open(child.pid) - before };`);
    const [none, ...some] = found['results'] as [string, ...number[]];
    assert.match(none, /^EMFILE .*create the dialling socket/);
    assert.deepEqual(some, [1, 3, 16]);
    assert.equal(found['leaked'], 0);
  });

  test('an agent dials as long as one is free, and says why it does no more', async () => {
    const found = await answer(`
      const workload = hosted();
      limit(process.pid, 256);
      const before = open();
      // Batches of 16 from here on.
      const taken = [];
      for (let dial = 0; dial < 40; dial++) taken.push(workload.dialSocket(4, descriptors));
      for (const fd of taken.splice(0)) addon.closeFd(fd);
      workload.close();
      const filled = [];
      const isFull = () => outcomeOf(() => void filled.push(fs.openSync('/dev/null'))) !== undefined;
      while (!isFull());
      for (const fd of filled.splice(-6)) fs.closeSync(fd);
      const few = hosted();
      const many = made(16);
      const free = 256 - open() + 1;
      const dials = [];
      for (let dial = 0; dial < 6; dial++) dials.push(outcomeOf(() => void taken.push(few.dialSocket(4, descriptors))) ?? 'made');
      for (const fd of [...taken, ...filled]) addon.closeFd(fd);
      few.close();
      return { many, free, dials, again: made(16), leaked: open() - before + 1, spares: descriptors.setAside(1000) };`);
    assert.match(String(found['many']), /^EMFILE .*take a descriptor from the privileged helper/);
    assert.equal(found['free'], 5);
    const dials = found['dials'] as string[];
    assert.deepEqual(
      dials.slice(0, 5),
      Array.from({ length: 5 }, () => 'made'),
    );
    assert.match(dials[5] ?? '', /^EMFILE /);
    assert.deepEqual([found['again'], found['leaked'], found['spares']], [16, 0, 256]);
  });
});
