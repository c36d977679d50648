import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { test } from 'node:test';
import { Reactor } from '../../../../../agent/dataplane/io/reactor.js';
import { ProbeListener } from '../../../../../agent/dataplane/listen/probe-listener.js';
import { ApplicationSocket } from '../../../../../agent/dataplane/relay/application-socket.js';
import { ProbeSockets } from '../../../../../agent/dataplane/pool/probe-sockets.js';
import { listenTcp } from '../../../../../agent/native/addon.js';
import { openNetns } from '../../../../../agent/native/netns.js';
import { duplicate } from '../../../../../agent/native/passed-sockets.js';
import { hostPorts } from '../../../../../agent/ports.js';
import { LabProcess } from '../../../../lab/lab-process.js';

/** Connects to the port of probes, and prints what it gets. */
const probe = `
  use Socket;
  $| = 1;
  socket(my $socket, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
  connect($socket, pack_sockaddr_in($ARGV[0], inet_aton('127.0.0.1'))) or die "connect: $!";
  print "connected\\n";
  my $got = sysread($socket, my $text, 100);
  print defined $got ? $text : "$!";
`;

test('a probe that waits when one agent closes its sockets is answered by the next one', async () => {
  const netns = `probes${randomBytes(3).toString('hex')}`;
  execFileSync('sh', ['-ec', `ip netns add ${netns}; ip -n ${netns} link set lo up`]);
  const { fd: netnsFd } = openNetns(`/run/netns/${netns}`);
  try {
    const before = ['127.0.0.1', '::1'].map((host) =>
      listenTcp({ netnsFd, host, port: hostPorts.probes, backlog: 16, reusePort: true, transparent: true }),
    );
    const argv = ['nsenter', `--net=/run/netns/${netns}`, 'perl', '-e', probe, String(hostPorts.probes)];
    await using prober = await LabProcess.start(argv);
    await prober.waitForLine(/connected/);
    const opened: (readonly number[])[] = [];
    const onOpen = (fds: readonly number[]): void => void opened.push(fds);
    using next = new ProbeSockets({ backlog: 16, kept: before.map(duplicate), onOpen });
    for (const fd of before) closeSync(fd);
    next.open();
    assert.deepEqual([next.problem, opened], [null, [next.sockets]]);
    const listener = new ProbeListener({
      sockets: next.sockets,
      backlog: 16,
      onConnection: ({ handle }) => {
        const socket = ApplicationSocket.accepted(Reactor.ofThread(), handle);
        socket.open({ onBytes() {}, onDrained() {}, onEnd() {}, onBroken() {}, onGone() {} });
        socket.send(Buffer.from('by the next one'));
        socket.close();
      },
    });
    await prober.exited;
    listener.close();
    assert.deepEqual(prober.lines, ['connected', 'by the next one']);
  } finally {
    closeSync(netnsFd);
    execFileSync('ip', ['netns', 'del', netns]);
  }
});
