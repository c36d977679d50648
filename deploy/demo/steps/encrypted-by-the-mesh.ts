import { capturePorts } from '../../../agent/ports.js';
import { require, type Step } from '../step.js';
import { countTls13Servers } from '../tls-on-the-wire.js';
import { storeUnderWatch } from './wire-before-the-mesh.js';

/** Step 2: agents join, and the same command now sends TLS 1.3. No application is restarted or configured. */
export const encryptedByTheMesh: Step = {
  id: 'encrypted-after',
  title: 'Agents join with tokens; the same traffic is now TLS 1.3, without changes to the applications',
  run: async (stage, narrator) => {
    const say = (line: string): void => narrator.say(line);
    narrator.doing('two agents join with single-use tokens and capture six workloads');
    const joinedIn = await timed(() => stage.mesh.startAgents());
    say(`two agents joined with single-use tokens and captured six workloads in ${joinedIn} ms`);

    const { pattern, reply, readBack, packets } = await storeUnderWatch(stage);
    const tls = countTls13Servers(packets, capturePorts.inboundTunnel);
    const toRedis = packets.streams.filter((stream) => stream.to.endsWith(' 6379')).length;
    require(reply === 'OK' &&
      readBack === pattern, `redis answers as before (it answered "${reply}", then "${readBack}")`);
    require(packets.droppedByKernel === 0, 'tcpdump saw every packet');
    require(!packets.contains(pattern), 'the pattern cannot be read on the wire');
    require(tls.tls13 > 0 && tls.other === 0, 'every tunnel on port 15008 is TLS 1.3');
    require(toRedis === 0, 'no clear text goes to the redis port');
    say(
      `the same command again: "${reply}"; on the wire ${tls.tls13} TLS 1.3 connection(s) to port 15008 and no trace of the pattern`,
    );

    const www = stage.mesh.lab.vip('www').ipv4;
    const page = (await stage.readSite('web')).stdout;
    require(page.startsWith(
      'hello from nginx',
    ), `nginx answers through the address of its service (it answered "${page}")`);
    const argv = stage.ssh.clientArgv(stage.workload('bastion').ipv4, ['echo', '$SSH_CONNECTION']);
    const [seenClient] = (await stage.workload('api').check(argv)).split(' ');
    require(seenClient === stage.workload('api').ipv4, `sshd sees the client's own address (it sees ${seenClient})`);
    say(
      `nginx behind the service address ${www} answered; sshd, a server-first protocol, sees its client's own address ${seenClient}`,
    );
    return {
      joinedInMs: joinedIn,
      pattern,
      foundOnTheWire: false,
      packets: packets.frames.length,
      tls13Connections: tls.tls13,
      plaintextConnections: toRedis,
      redisReply: reply,
      nginxThroughVip: page.trim(),
      sshdSeesClient: seenClient,
    };
  },
};

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return Math.round(performance.now() - start);
}
