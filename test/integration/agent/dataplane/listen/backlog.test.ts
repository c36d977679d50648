import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import { openLoopbackListener } from '../../../../../agent/dataplane/listen/late/loopback-listener.js';
import { ProbeListener } from '../../../../../agent/dataplane/listen/probe-listener.js';
import { WorkloadListeners } from '../../../../../agent/dataplane/listen/workload-listeners.js';
import { ListeningSockets } from '../../../../../agent/dataplane/pool/listening-sockets.js';
import { closeFd, listenTcp } from '../../../../../agent/native/addon.js';
import { netnsInode } from '../../../../../agent/native/netns.js';
import { hostPorts } from '../../../../../agent/ports.js';
import { workloadNamed } from '../../../../support/routing/names.js';

test('each listener has the backlog of the setting, more and less than what Node takes by itself', async () => {
  const netns = `backlog${randomBytes(3).toString('hex')}`;
  const netnsPath = `/run/netns/${netns}`;
  execFileSync('sh', ['-ec', `ip netns add ${netns}; ip -n ${netns} link set lo up`]);
  try {
    for (const backlog of [200, 3000]) {
      const described = { name: workloadNamed('test/queue'), netnsPath, netnsInode: netnsInode(netnsPath) ?? 0 };
      const workload = HostedWorkload.open({ ...described, slot: 0 });
      const sockets = new ListeningSockets({ workers: 1, backlog });
      const opened = sockets.openFor([described]).get(described.name);
      assert.ok(opened?.kind === 'open');
      const ignore = (): void => undefined;
      const listeners = await WorkloadListeners.open({
        workload,
        sockets: opened.fds,
        backlog,
        handlers: { outbound: ignore, inboundPlaintext: ignore, inboundTunnel: ignore, acceptFailed: ignore },
      });
      const late = openLoopbackListener({
        workload,
        host: '127.0.0.1',
        backlog,
        onAccept: ignore,
        onError: ignore,
      });
      // Where a host has it on its loopback interface, and its socket is made with another one.
      const probe = listenTcp({
        netnsFd: workload.netnsFd,
        host: '127.0.0.1',
        port: hostPorts.probes,
        backlog: 16,
        reusePort: true,
        transparent: true,
      });
      const probes = new ProbeListener({ sockets: [probe], backlog, onConnection: ignore });
      // The third column of a listening socket is the maximum length of its queue.
      const listening = execFileSync('nsenter', [`--net=${netnsPath}`, 'ss', '-Hltn'])
        .toString()
        .trim()
        .split('\n');
      assert.deepEqual(
        listening.map((line) => Number(line.split(/\s+/)[2])),
        [backlog, backlog, backlog, backlog, backlog],
      );
      listeners.close();
      late.close();
      probes.close();
      closeFd(probe);
      sockets.closeAll();
      workload.close();
    }
  } finally {
    execFileSync('ip', ['netns', 'del', netns]);
  }
});
