import { programs } from '../../test/lab/programs.js';
import type { Stage } from './stage.js';

/** Commands to try while the demo keeps running. */
export function renderPlayGuide(stage: Stage): string {
  const { mesh } = stage;
  const inside = (node: { readonly netns: string }, command: string): string =>
    `ip netns exec ${node.netns} ${command}`;
  const culvert = inside(
    mesh.controller.node,
    `env CULVERT_CONTEXT=${mesh.controller.contextFile} ${programs.culvert.join(' ')}`,
  );
  const cache = stage.workload('cache').ipv4;
  const www = mesh.lab.vip('www').ipv4;
  const node1 = mesh.agent('node1');
  const lines: readonly (readonly [string, string])[] = [
    ['an allowed client', inside(stage.workload('web'), `redis-cli -h ${cache} ping`)],
    ['an intruder', inside(stage.workload('intruder'), `redis-cli -h ${cache} ping`)],
    ['nginx behind its service address', inside(stage.workload('web'), `curl -s http://${www}/`)],
    [
      'a session on the bastion',
      inside(stage.workload('web'), stage.ssh.clientArgv(stage.workload('bastion').ipv4, []).join(' ')),
    ],
    ['a shell in a workload', inside(stage.workload('api'), 'bash')],
    ['the state of the mesh', `${culvert} status`],
    ['why a connection is refused', `${culvert} why guest/intruder shop/cache:6379`],
    ['delete a rule', `${culvert} delete SegmentationRule redis-deny-others`],
    ['metrics of a node', inside(node1.node, 'curl -s http://127.0.0.1:15020/metrics')],
    ['live state of an agent', inside(node1.node, 'curl -s http://127.0.0.1:15000/dump')],
    ['the log of an agent', `tail -f ${node1.logFile}`],
    ['the firewall rules in a workload', inside(stage.workload('web'), 'iptables-save')],
    ['the wire between the hosts', inside(mesh.lab.host('node2'), 'tcpdump -ni eth0 tcp')],
  ];
  return lines.map(([what, command]) => `  # ${what}\n  ${command}`).join('\n');
}
