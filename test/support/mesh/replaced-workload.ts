import { requireSuccess } from '../../lab/command.js';
import type { LabWorkload } from '../../lab/lab-node.js';
import type { Mesh } from '../../lab/mesh.js';

/**
 * What a container runtime does at a restart: the namespace goes, and another one comes under the same name with the same
 * addresses. A process with a socket in the old one keeps it alive, and with it the canary's far end in the fabric.
 */
export class ReplacedWorkload {
  readonly #workload: LabWorkload;
  readonly #hostNetns: string;
  readonly #host: { readonly ipv4: string; readonly ipv6: string };
  readonly #canary = 'canary0';

  constructor(mesh: Mesh, workload: LabWorkload) {
    this.#workload = workload;
    const host = mesh.lab.host(workload.host);
    this.#hostNetns = host.netns;
    this.#host = host;
  }

  /** A pair of links, one end in the workload's namespace, the other on its host. */
  async placeCanary(): Promise<void> {
    await this.#ip(
      this.#hostNetns,
      `link add ${this.#canary} type veth peer name canary1 netns ${this.#workload.netns}`,
    );
  }

  async hasCanary(): Promise<boolean> {
    const links = await requireSuccess(['ip', '-n', this.#hostNetns, '-o', 'link']);
    return links.includes(`${this.#canary}@`);
  }

  /** Ends the link to the host and the name; what holds the namespace itself, holds it on. */
  async remove(): Promise<void> {
    const links = await requireSuccess(['ip', '-n', this.#hostNetns, 'route', 'show', this.#workload.ipv4]);
    const link = / dev (\S+)/.exec(links)?.[1] ?? '';
    // The link first: a namespace that nothing holds takes its own with it.
    await requireSuccess(['ip', '-n', this.#hostNetns, 'link', 'del', link]);
    await requireSuccess(['ip', 'netns', 'del', this.#workload.netns]);
  }

  async create(): Promise<void> {
    const { netns, ipv4, ipv6 } = this.#workload;
    await requireSuccess(['ip', 'netns', 'add', netns]);
    const sysctls =
      'echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad';
    await requireSuccess(['nsenter', `--net=/run/netns/${netns}`, 'sh', '-c', sysctls]);
    await this.#ip(
      this.#hostNetns,
      `link add again0 type veth peer name eth0 netns ${netns}`,
      'link set again0 up',
      'addr add fe80::1/64 dev again0 nodad',
      `route add ${ipv4}/32 dev again0 src ${this.#host.ipv4}`,
      `route add ${ipv6}/128 dev again0 src ${this.#host.ipv6}`,
    );
    await this.#ip(
      netns,
      'link set lo up',
      'link set eth0 up',
      `addr add ${ipv4}/32 dev eth0`,
      `addr add ${ipv6}/128 dev eth0 nodad`,
      'route add 169.254.1.1/32 dev eth0 scope link',
      'route add default via 169.254.1.1 dev eth0',
      'route add default via fe80::1 dev eth0',
    );
  }

  async #ip(netns: string, ...lines: readonly string[]): Promise<void> {
    await requireSuccess(['ip', '-n', netns, '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }
}
