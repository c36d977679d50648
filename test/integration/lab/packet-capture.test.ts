import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import type { Lab } from '../../lab/lab.js';
import { createLab } from '../../lab/lab.js';
import { patientMs } from '../../lab/patience.js';

describe('a packet capture in a lab', { timeout: patientMs(60_000) }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab({
      hosts: [
        { name: 'node1', workloads: [{ name: 'web', namespace: 'shop', serviceAccount: 'web' }] },
        { name: 'node2', workloads: [{ name: 'api', namespace: 'shop', serviceAccount: 'api' }] },
      ],
    });
  });
  after(() => lab.close());

  for (const family of ['ipv4', 'ipv6'] as const) {
    it(`shows on the wire between the hosts what a workload sends over ${family}, and nothing else`, async () => {
      await using capture = await lab.capture({ at: lab.host('node2'), filter: 'tcp' });
      await sayAcross(lab, family, `a pattern over ${family}`);
      const packets = await capture.stop();
      assert.ok(packets.contains(`a pattern over ${family}`));
      assert.ok(!packets.contains('a pattern that was never sent'));
      assert.equal(packets.droppedByKernel, 0);
      // One connection, two directions.
      assert.equal(packets.streams.length, 2);
      assert.equal(packets.pcap.readUInt32LE(0), 0xa1b2c3d4);
    });
  }

  it('finds a pattern that was written in two packets', async () => {
    await using capture = await lab.capture({ at: lab.host('node1') });
    await sayAcross(lab, 'ipv4', 'the first half, ', 'the second half');
    const packets = await capture.stop();
    assert.ok(packets.frames.every((frame) => !frame.includes('first half, the second')));
    assert.ok(packets.contains('first half, the second'));
  });

  it('keeps to its filter', async () => {
    await using capture = await lab.capture({ at: lab.host('node1'), filter: 'tcp port 1' });
    await sayAcross(lab, 'ipv4', 'not for this filter');
    assert.ok(!(await capture.stop()).contains('not for this filter'));
  });

  it('names the interface or filter that tcpdump does not take', async () => {
    const at = lab.host('node1');
    await assert.rejects(lab.capture({ at, interface: 'nothing0' }), {
      code: 'LAB_PROCESS_ENDED',
      message: /nothing0/,
    });
    await assert.rejects(lab.capture({ at, filter: 'nonsense of' }), { code: 'LAB_PROCESS_ENDED', message: /syntax/ });
  });
});

/** Each text is answered before the next is sent, so that they are packets of their own. */
async function sayAcross(lab: Lab, family: 'ipv4' | 'ipv6', ...texts: string[]): Promise<void> {
  await using server = await lab.workload('api').listen({}, (socket) => socket.on('data', () => socket.write('.')));
  const socket = await lab.workload('web').connect({ ip: lab.workload('api')[family], port: server.port });
  for (const text of texts) {
    socket.write(text);
    await once(socket, 'data');
  }
  socket.destroy();
}
