import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import type net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { PlainFarSide } from '../../../../../agent/dataplane/flow/far-side.js';
import { ProbedSocket } from '../../../../../agent/dataplane/flow/probed-socket.js';
import { acceptedFd } from '../../../../../agent/native/addon.js';
import { openNetns } from '../../../../../agent/native/netns.js';
import { SocketTable } from '../../../../../agent/native/socket-table.js';
import { setDeaf } from '../../../../../agent/native/tcp-life.js';
import { patientMs } from '../../../../lab/patience.js';
import { waitUntil } from '../../../../lab/wait-until.js';
import { localEnd, remoteEnd } from '../../../../support/agent/entry-lifetime.js';
import { SocketPeer } from '../../../../support/agent/socket-peer.js';
import { socketPair } from '../../../../support/agent/relay-road.js';
import { readSome } from '../../../../support/mesh/two-hosts.js';

/** Probes after which the kernel gives up here; 127 would take two minutes. */
const mostProbes = 5;

describe(
  'a connection whose other side does not answer probes',
  { concurrency: true, timeout: patientMs(120_000) },
  () => {
    test('is given up by the kernel after their number', async () => {
      const { own } = await silentPair();
      new ProbedSocket(new SocketPeer(own), { mostProbes }).ask(1);
      const [error] = (await once(own, 'error')) as [NodeJS.ErrnoException];
      assert.equal(error.code, 'ETIMEDOUT');
    });

    test('outlasts it while it is looked after, counts as gone, and goes on when the other side is back', async () => {
      const { own, peer } = await silentPair();
      own.on('error', (error) => assert.fail(error));
      const probed = new ProbedSocket(new SocketPeer(own), { mostProbes });
      const far = new PlainFarSide(probed);
      assert.equal(far.isGone(), false);
      far.ask(1);
      await waitUntil('twice as many probes', () => {
        const isGone = far.isGone();
        const { unansweredProbes } = probed.condition();
        assert.equal(isGone, unansweredProbes >= 3);
        return unansweredProbes > 2 * mostProbes ? true : undefined;
      });
      assert.ok(probed.isOutlasting);
      setDeaf(acceptedFd(peer), false);
      await waitUntil('an answer', () => (far.isGone() ? undefined : true));
      assert.equal(probed.isOutlasting, false);
      own.write('back');
      assert.equal(String(await readSome(peer)), 'back');
      destroy(own, peer);
    });

    test('is for the kernel to give up while bytes are under way', async () => {
      const { own, peer } = await silentPair();
      const probed = new ProbedSocket(new SocketPeer(own), { mostProbes });
      probed.ask(1);
      await waitUntil('it outlasts', () => (probed.condition().unansweredProbes >= 3 ? true : undefined));
      assert.ok(probed.isOutlasting);
      own.write('not acknowledged');
      await waitUntil('the bytes are under way', () => (probed.condition().hasBytesUnderWay ? true : undefined));
      assert.equal(probed.isOutlasting, false);
      destroy(own, peer);
    });
  },
);

describe('the pause between two probes', () => {
  let sockets: SocketTable;

  before(() => {
    const { fd } = openNetns('/proc/self/ns/net');
    sockets = SocketTable.open(fd);
    closeSync(fd);
  });
  after(() => sockets.close());

  const entry = (everySeconds: number) => ({ everySeconds, longestRetransmitMs: null });
  const steps: readonly {
    readonly what: string;
    readonly act: (probed: ProbedSocket) => void;
    readonly seconds: number;
  }[] = [
    { what: 'of its entry', act: (probed) => probed.keepEntry(entry(600)), seconds: 600 },
    { what: 'of an application that asks more often', act: (probed) => probed.ask(30), seconds: 30 },
    { what: 'stays when the entry gets another one', act: (probed) => probed.keepEntry(entry(400)), seconds: 30 },
    { what: 'follows an entry that needs a shorter one', act: (probed) => probed.keepEntry(entry(10)), seconds: 10 },
    { what: 'returns to that of the application', act: (probed) => probed.keepEntry(entry(500)), seconds: 30 },
  ];

  test('is the shortest that is needed, whatever changes', async () => {
    const [peer, own] = await socketPair();
    const probed = new ProbedSocket(new SocketPeer(own));
    for (const { what, act, seconds } of steps) {
      act(probed);
      const dueInMs = sockets.find({ local: localEnd(own), remote: remoteEnd(own) })?.probesInMs ?? 0;
      // Less by the silence until now, and at most by a third: far from the pause of another step.
      assert.ok(dueInMs <= seconds * 1000 && dueInMs > (seconds * 1000) / 3, `${what}: ${dueInMs} ms`);
    }
    destroy(own, peer);
  });
});

async function silentPair(): Promise<{ readonly own: net.Socket; readonly peer: net.Socket }> {
  const [peer, own] = await socketPair();
  peer.on('error', () => {});
  setDeaf(acceptedFd(peer), true);
  return { own, peer };
}

function destroy(...sockets: readonly net.Socket[]): void {
  for (const socket of sockets) socket.destroy();
}
