import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import type { LabServer } from '../../../test/lab/namespace-sockets.js';
import { waitUntil } from '../../../test/lab/wait-until.js';
import { require, type Step } from '../step.js';
import type { Stage } from '../stage.js';

const documentsFile = 'deploy/demo/rules/greeter-canary.yaml';
const route = 'VirtualService/shop/greeter spec.tcp[0]';
const port = 8080;
const connections = 120;
const ofCanary = 0.1;

/** Step 7: a tenth of new connections go to the next version, and an endpoint that is killed is left out. */
export const canaryAndEjection: Step = {
  id: 'canary-and-ejection',
  title: 'A tenth of the connections go to version 2; an endpoint that is killed fails no client',
  run: async (stage, narrator) => {
    const say = (line: string): void => narrator.say(line);
    const servers = new Map<string, LabServer>();
    try {
      for (const name of ['cache', 'site', 'api']) {
        const greet = stage.workload(name).listen({ port }, (socket) => {
          socket.on('error', () => {});
          socket.end(`hello from ${name}\n`);
        });
        servers.set(name, await greet);
      }
      await stage.mesh.apply(await readFile(documentsFile, 'utf8'));
      narrator.doing(`shop/web opens ${connections} connections to the service greeter`);
      const first = await greetings(stage, connections);
      const routed = await waitUntil('the agent has counted them', async () => {
        const [v1, v2] = [await countOf(stage, 'v1'), await countOf(stage, 'v2')];
        return v1 + v2 === connections ? { v1, v2 } : undefined;
      });
      // Five standard deviations: the agent draws for each connection.
      const tolerance = 5 * Math.sqrt(connections * ofCanary * (1 - ofCanary));
      require(Math.abs(routed.v2 - connections * ofCanary) <= tolerance, `v2 got about a tenth (${routed.v2})`);
      require((first.get('api') ?? 0) === routed.v2, 'the workload of v2 answered as often as the agent counted');
      const share = ((100 * routed.v2) / connections).toFixed(1);
      say(`weights 90 and 10: v1 got ${routed.v1} connections and v2 ${routed.v2} (${share} %)`);

      narrator.doing('the greeter of shop/cache is killed; the clients go on');
      await servers.get('cache')?.close();
      servers.delete('cache');
      const second = await greetings(stage, connections / 2);
      require((second.get('cache') ?? 0) === 0, 'nothing answers at shop/cache');
      const shown = await waitUntil('its agent tells of the ejection', async () => {
        const { stdout } = await stage.mesh.controller.culvert(['endpoints', 'shop/greeter']);
        return /^shop\/cache +node1 .*$/m.exec(stdout.slice(stdout.indexOf('Ejected')))?.[0];
      });
      const ejections = await stage.mesh.agent('node1').metric('culvert_endpoint_ejections_total');
      require(ejections >= 1, 'the agent counted the ejection');
      say(
        `${connections / 2} more connections: all were answered, and culvert endpoints shop/greeter says of the dead one:`,
      );
      say(shown.replaceAll(/ {2,}/g, '  '));
      return { connections, ...routed, answeredAfterTheKill: connections / 2, ejections, shown };
    } finally {
      for (const server of servers.values()) await server.close();
    }
  },
};

/** How many connections of shop/web each workload answered, one after another. */
async function greetings(stage: Stage, times: number): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (let i = 0; i < times; i++) {
    const socket = await stage.workload('web').connect({ ip: stage.mesh.lab.vip('greeter').ipv4, port: 80 });
    const [, name] = /^hello from (\w+)\n$/.exec(await text(socket)) ?? [];
    require(name !== undefined, `connection ${i + 1} was answered`);
    counts.set(name, (counts.get(name) ?? 0) + 1);
    socket.destroy();
  }
  return counts;
}

async function countOf(stage: Stage, subset: string): Promise<number> {
  return await stage.mesh.agent('node1').metric('culvert_connections_routed_total', { route, subset, reason: 'OK' });
}
