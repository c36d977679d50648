import { randomBytes } from 'node:crypto';
import type { CapturedPackets } from '../../../test/lab/packet-capture.js';
import type { Stage } from '../stage.js';
import { require, type Step } from '../step.js';

/** Stores a pattern in redis on the other host while tcpdump captures the wire between the hosts. */
export async function storeUnderWatch(stage: Stage): Promise<{
  readonly pattern: string;
  readonly reply: string;
  readonly readBack: string;
  readonly packets: CapturedPackets;
}> {
  const pattern = `pattern-${randomBytes(12).toString('hex')}`;
  const capture = await stage.mesh.lab.capture({
    at: stage.mesh.lab.host('node2'),
    filter: 'tcp and net 198.18.11.0/24',
  });
  await using _ = capture;
  const reply = (await stage.redis('web', ['SET', 'demo', pattern])).stdout.trim();
  const readBack = (await stage.redis('web', ['GET', 'demo'])).stdout.trim();
  return { pattern, reply, readBack, packets: await capture.stop() };
}

/** Step 1: without a mesh, an eavesdropper on the wire can read application data. */
export const wireBeforeTheMesh: Step = {
  id: 'readable-before',
  title: 'Before the mesh, application data is readable on the wire',
  run: async (stage, narrator) => {
    const say = (line: string): void => narrator.say(line);
    const { pattern, reply, readBack, packets } = await storeUnderWatch(stage);
    require(reply === 'OK' && readBack === pattern, `redis answers without the mesh (it answered "${reply}")`);
    require(packets.droppedByKernel === 0, 'tcpdump saw every packet');
    require(packets.contains(pattern), 'the pattern is readable on the wire');
    say(`web stored "${pattern}" in redis; tcpdump between the hosts read it in clear text`);
    return { pattern, foundOnTheWire: true, packets: packets.frames.length, bytes: packets.pcap.length };
  },
};
