import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { createServer, type Server, Socket, type SocketConstructorOpts } from 'node:net';
import { promisify } from 'node:util';
import { isSelfTest } from '../../../agent/self-test-target.js';
import { transparentRulePriority } from '../../../agent/capture/firewall/workload-rules.js';
import { WorkloadCapture } from '../../../agent/capture/workload-capture.js';
import { capturePorts, transparentReplyTable } from '../../../agent/ports.js';
import { acceptedFd, listenTcp, originalDestination } from '../../../agent/native/addon.js';
import { dialSocket } from '../../../agent/native/dial-sockets.js';
import { openNetns } from '../../../agent/native/netns.js';
import { formatHostPort, type IpAddress, isIpv6 } from '../../../shared/address.js';

const execute = promisify(execFile);

/** A namespace of the test network: `a` and `b` are workloads, `x` is a client elsewhere, `router` their host. */
export type NetworkPlace = {
  readonly netns: string;
  readonly path: string;
  readonly fd: number;
  readonly ip: Readonly<Record<4 | 6, IpAddress>>;
};

/** Four namespaces of the machine's own making, routed through one of them; nothing leaves them. */
export class CaptureNetwork implements AsyncDisposable {
  readonly router: NetworkPlace;
  readonly a: NetworkPlace;
  readonly b: NetworkPlace;
  readonly x: NetworkPlace;
  readonly #prefix = `cvn${randomBytes(3).toString('hex')}`;
  readonly #owned = new Set<Socket | Server>();
  readonly #captures = new Set<WorkloadCapture>();

  constructor() {
    const legs = ['a', 'b', 'x'].map((name, index) => ({ name, net: index + 1 }));
    const p = this.#prefix;
    const lines = [
      'set -e',
      `ip netns add ${p}router; ip -n ${p}router link set lo up`,
      `nsenter --net=/run/netns/${p}router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1`,
      // Duplicate address detection keeps a new link-local address unusable for a second or two.
      `nsenter --net=/run/netns/${p}router sysctl -qw net.ipv6.conf.default.accept_dad=0`,
      ...legs.flatMap(({ name, net }) => [
        `ip netns add ${p}${name}; ip -n ${p}${name} link set lo up`,
        `nsenter --net=/run/netns/${p}${name} sysctl -qw net.ipv6.conf.default.accept_dad=0`,
        `ip -n ${p}router link add to-${name} type veth peer name eth0 netns ${p}${name}`,
        `ip -n ${p}router addr add 198.19.${net}.1/24 dev to-${name}; ip -n ${p}router addr add fd00:19:${net}::1/64 dev to-${name} nodad`,
        `ip -n ${p}${name} addr add 198.19.${net}.2/24 dev eth0; ip -n ${p}${name} addr add fd00:19:${net}::2/64 dev eth0 nodad`,
        `ip -n ${p}router link set to-${name} up; ip -n ${p}${name} link set eth0 up`,
        `ip -n ${p}${name} route add default via 198.19.${net}.1; ip -n ${p}${name} -6 route add default via fd00:19:${net}::1`,
      ]),
      // The kernel brings link-local addresses when it has noticed that the link is up.
      ...legs.map(
        ({ name }) =>
          `for i in $(seq 200); do ip -n ${p}${name} -6 route show table local | grep -q '^local fe80' && break; sleep 0.02; done`,
      ),
    ];
    execFileSync('sh', ['-c', lines.join('\n')]);
    this.router = this.#place('router', 1, 1);
    this.a = this.#place('a', 1, 2);
    this.b = this.#place('b', 2, 2);
    this.x = this.#place('x', 3, 2);
  }

  #place(name: string, net: number, host: number): NetworkPlace {
    const netns = `${this.#prefix}${name}`;
    const path = `/run/netns/${netns}`;
    const ip = { 4: `198.19.${net}.${host}` as IpAddress, 6: `fd00:19:${net}::${host}` as IpAddress };
    return { netns, path, fd: openNetns(path).fd, ip };
  }

  /** Runs a shell script in a namespace. */
  async sh(place: NetworkPlace, script: string): Promise<string> {
    const { stdout } = await execute('nsenter', [`--net=${place.path}`, 'sh', '-ec', script]);
    return stdout;
  }

  /** Everything that capture may change in a namespace, without what changes by itself. */
  async fingerprint(place: NetworkPlace): Promise<string> {
    const text = await this.sh(
      place,
      'iptables-save; ip6tables-save; nft list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; sysctl -a 2>/dev/null | grep -E "^net.(ipv4|ipv6).(conf|ip_|tcp_)"',
    );
    const noise = /^#.*\n|expires \d+sec|(?<=counter )packets \d+ bytes \d+/gm;
    return text.replaceAll(noise, '');
  }

  /**
   * A server of this process in a namespace that tells each client `LABEL ORIGINAL-DESTINATION CLIENT`. On a port of the
   * agent it stands for the agent, unless `isForeign`.
   */
  async serve(o: {
    at: NetworkPlace;
    port: number;
    label: string;
    host?: string;
    isForeign?: boolean;
    reusePort?: boolean;
    /** A listening socket that is there already; it becomes the server's. */
    fd?: number;
  }): Promise<Server> {
    const { host = '::', port, reusePort = false } = o;
    const transparent = o.isForeign !== true;
    const fd = o.fd ?? listenTcp({ netnsFd: o.at.fd, host, port, backlog: 64, reusePort, transparent });
    const server = createServer((socket) => {
      this.#own(socket);
      const local = socket.localAddress ?? '';
      const isV4 = !local.includes(':') || local.startsWith('::ffff:');
      const original = originalDestination({ fd: acceptedFd(socket), localFamily: isV4 ? 4 : 6 });
      if (original !== null && isSelfTest(original)) {
        socket.destroy();
        return;
      }
      const isDirect =
        original === null || (original.ip === local.replace('::ffff:', '') && original.port === socket.localPort);
      const destination = isDirect ? 'direct' : formatHostPort(original);
      const remote = (socket.remoteAddress ?? '').replace('::ffff:', '');
      socket.write(`${o.label} ${destination} ${remote}\n`);
      socket.on('data', (chunk) => socket.write(chunk));
    });
    server.on('error', () => {});
    this.#owned.add(server);
    await new Promise<void>((resolve) => server.listen({ fd, backlog: 64 }, resolve));
    return server;
  }

  /** Data-plane stand-ins on all three capture ports. */
  async serveCapturePorts(at: NetworkPlace): Promise<Server[]> {
    return await Promise.all([
      this.serve({ at, port: capturePorts.outbound, label: 'outbound' }),
      this.serve({ at, port: capturePorts.inboundPlaintext, label: 'inbound' }),
      this.serve({ at, port: capturePorts.inboundTunnel, label: 'tunnel' }),
    ]);
  }

  /** Connects from a namespace; resolves with the socket and the first line, or with the error's code as the line. */
  async dial(o: {
    from: NetworkPlace;
    ip: string;
    port: number;
    mark?: number;
    source?: IpAddress;
    localPort?: number;
    withinMs?: number;
  }): Promise<{ socket: Socket; line: string }> {
    const family = isIpv6(o.ip as IpAddress) ? 6 : 4;
    const source = o.source === undefined ? {} : { transparentSource: o.source };
    const fd = dialSocket({ netnsFd: o.from.fd, family, mark: o.mark ?? 0, ...source });
    const init: SocketConstructorOpts & { manualStart: true } = { fd, manualStart: true, allowHalfOpen: true };
    const socket = new Socket(init);
    this.#own(socket);
    const bind =
      o.localPort === undefined ? {} : { localAddress: o.source ?? o.from.ip[family], localPort: o.localPort };
    const line = await new Promise<string>((resolve) => {
      const deadline = setTimeout(() => resolve('TIMEOUT'), o.withinMs ?? 1500);
      let text = '';
      const finish = (result: string): void => {
        clearTimeout(deadline);
        resolve(result);
      };
      socket.on('data', (chunk) => {
        text += chunk.toString();
        if (text.includes('\n')) finish(text.trimEnd());
      });
      socket.on('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
      socket.once('close', () => finish('CLOSED'));
      socket.connect({ host: o.ip, port: o.port, ...bind });
    });
    return { socket, line };
  }

  /** Sends a text over an open connection to a {@link serve} server and waits until it comes back. */
  async echo(socket: Socket, text: string): Promise<string> {
    return await new Promise((resolve) => {
      const deadline = setTimeout(() => resolve('TIMEOUT'), 1500);
      const finish = (result: string): void => {
        clearTimeout(deadline);
        resolve(result);
      };
      socket.once('data', (chunk) => finish(chunk.toString()));
      socket.once('close', () => finish('CLOSED'));
      socket.write(text);
    });
  }

  /** Ends all connections at both ends, as a data plane does that lets a workload go. */
  hangUp(): void {
    for (const each of this.#owned) if (each instanceof Socket) each.destroy();
  }

  /** A capture that {@link cleanUp} ends. */
  capture(init: ConstructorParameters<typeof WorkloadCapture>[0]): WorkloadCapture {
    const capture = new WorkloadCapture(init);
    this.#captures.add(capture);
    return capture;
  }

  /** Ends everything that a test left, so that one that failed does not fail the next: for `afterEach`. */
  async cleanUp(): Promise<void> {
    this.hangUp();
    for (const each of this.#owned) if (!(each instanceof Socket)) each.close();
    this.#owned.clear();
    for (const capture of this.#captures) await capture.close();
    this.#captures.clear();
    const script = `nft flush ruleset
      for f in 4 6; do ip -$f rule del pref ${transparentRulePriority}; ip -$f route flush table ${transparentReplyTable}; done 2>/dev/null
      for t in $(cat /proc/net/ip_tables_names); do iptables-legacy -w 5 -t $t -F; iptables-legacy -w 5 -t $t -X; done
      for t in $(cat /proc/net/ip6_tables_names); do ip6tables-legacy -w 5 -t $t -F; ip6tables-legacy -w 5 -t $t -X; done
      true`;
    await Promise.all(
      [this.a, this.b, this.x].map((place) => execute('nsenter', [`--net=${place.path}`, 'sh', '-c', script])),
    );
  }

  #own(socket: Socket): void {
    socket.on('error', () => {});
    this.#owned.add(socket);
    socket.once('close', () => this.#owned.delete(socket));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of this.#owned) {
      if (each instanceof Socket) each.destroy();
      else each.close();
    }
    for (const place of [this.a, this.b, this.x, this.router]) {
      closeSync(place.fd);
      await execute('ip', ['netns', 'del', place.netns]);
    }
  }
}
