import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { StreamWindow } from '../../../../../agent/dataplane/engine/lean/stream-window.js';
import { WindowAllowance } from '../../../../../agent/dataplane/engine/lean/window-allowance.js';
import { EngineProbe } from '../../../../support/http2/engine-fixture.js';

const kib = 1024;

class World {
  nowMs = 0;
  readonly allowance: WindowAllowance;

  constructor({ totalBytes = 16_384 * kib }: { readonly totalBytes?: number } = {}) {
    const nowMs = (): number => this.nowMs;
    this.allowance = new WindowAllowance({ firstBytes: 128 * kib, mostBytes: 4096 * kib, totalBytes, nowMs });
  }

  stream(): Peer {
    return new Peer(new StreamWindow({ allowance: this.allowance }));
  }
}

/** A sender that sends all that it may, and what waits at the receiver. */
class Peer {
  readonly window: StreamWindow;
  mayBytes = 128 * kib;
  waitingBytes = 0;

  constructor(window: StreamWindow) {
    this.window = window;
  }

  /** Fills the window; returns how much that was. */
  send(): number {
    const bytes = this.mayBytes;
    assert.ok(this.window.take(bytes), 'what was announced may be sent');
    this.waitingBytes += bytes;
    this.mayBytes = 0;
    return bytes;
  }

  read(bytes = this.waitingBytes): void {
    this.waitingBytes -= bytes;
    this.mayBytes += this.window.credit(bytes, this.waitingBytes);
  }
}

function readAsItComes(peer: Peer, bytes: number): void {
  for (let sent = 0; sent < bytes;) {
    sent += peer.send();
    peer.read();
  }
}

/** Whole numbers below a limit, the same in each run. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return Math.floor((state / 0x8000_0000) * below);
  };
}

describe('the window of a stream', () => {
  it('is all that may come before anything is read', () => {
    const { window } = new World().stream();
    assert.equal(window.take(128 * kib), true);
    assert.equal(window.take(1), false);
  });

  it('grows to its limit in a few round trips of a reader that keeps up, and stays there', () => {
    const peer = new World().stream();
    const sent: number[] = [];
    for (let trip = 0; trip < 12; trip++) {
      sent.push(peer.send() / kib);
      peer.read();
    }
    assert.deepEqual(sent, [128, 128, 256, 256, 512, 512, 1024, 1024, 2048, 2048, 4096, 4096]);
  });

  it('does not grow while the reader is behind', () => {
    const peer = new World().stream();
    for (let trip = 0; trip < 100; trip++) {
      peer.send();
      peer.read(64 * kib);
    }
    assert.ok(peer.waitingBytes + peer.mayBytes <= 128 * kib);
  });

  it('is back at its first size when the reader was late for a while', () => {
    const world = new World();
    const peer = world.stream();
    for (let trip = 0; trip < 12; trip++) {
      peer.send();
      peer.read();
    }
    peer.send();
    assert.equal(peer.waitingBytes, 4096 * kib);
    for (let read = 0; read < 63; read++) {
      world.nowMs += 60;
      peer.read(64 * kib);
      peer.send();
    }
    assert.ok(peer.waitingBytes <= 128 * kib, `${peer.waitingBytes / kib} KiB wait`);
    peer.read();
    assert.equal(peer.mayBytes, 128 * kib);
  });

  it('stays when the reader is late for a moment only', () => {
    const world = new World();
    const peer = world.stream();
    for (let trip = 0; trip < 12; trip++) {
      peer.send();
      peer.read();
    }
    for (let trip = 0; trip < 20; trip++) {
      peer.send();
      world.nowMs += 90;
      peer.read(3072 * kib);
      peer.read();
    }
    assert.equal(peer.mayBytes, 4096 * kib);
  });

  it('is announced in portions', () => {
    const peer = new World().stream();
    peer.send();
    for (let read = 0; read < 31; read++) peer.read(kib);
    assert.equal(peer.mayBytes, 0);
    peer.read(kib);
    assert.equal(peer.mayBytes, 32 * kib);
  });
});

describe('the windows of all streams of a connection', () => {
  it('grow to half of what is left, so that one that comes later can grow too', () => {
    const world = new World();
    const sizes: number[] = [];
    for (let joined = 0; joined < 5; joined++) {
      const peer = world.stream();
      readAsItComes(peer, 64 * 1024 * kib);
      sizes.push(peer.mayBytes / kib);
    }
    assert.deepEqual(sizes, [4096, 4096, 4096, 2048, 1024]);
  });

  it('may be had by others when one closes', () => {
    const world = new World();
    const [first, ...others] = [world.stream(), world.stream(), world.stream(), world.stream()];
    for (const peer of [first, ...others]) readAsItComes(peer, 64 * 1024 * kib);
    const last = others.at(-1)!;
    assert.equal(last.mayBytes, 2048 * kib);
    first.window.close();
    readAsItComes(last, 64 * 1024 * kib);
    assert.equal(last.mayBytes, 4096 * kib);
  });

  it('grow for what the buffers of an application that does not read take while half is left, and not beyond', () => {
    const world = new World();
    const peers = Array.from({ length: 50 }, () => world.stream());
    for (const peer of peers) {
      readAsItComes(peer, 1280 * kib);
      peer.send();
    }
    const waiting = peers.reduce((sum, { waitingBytes }) => sum + waitingBytes, 0);
    assert.ok(waiting < 8192 * kib + 256 * kib, `${waiting / kib} KiB wait`);
    const fast = world.stream();
    readAsItComes(fast, 64 * 1024 * kib);
    assert.ok(fast.mayBytes >= 2048 * kib, `${fast.mayBytes / kib} KiB for one that reads`);
  });

  it('grow for a reader that is behind now and then and never late, also when less than half is left', () => {
    const world = new World();
    for (let count = 0; count < 70; count++) world.stream();
    const peer = world.stream();
    for (let burst = 0; burst < 20; burst++) {
      readAsItComes(peer, 3072 * kib);
      peer.send();
      world.nowMs += 10;
      peer.read(peer.waitingBytes / 4);
      peer.read();
    }
    assert.equal(peer.mayBytes, 2048 * kib);
  });

  it('hold together no more than is allowed, and a first window for each stream that came later', () => {
    const totalBytes = 4096 * kib;
    const world = new World({ totalBytes });
    const random = randomNumbers(7);
    let peers = Array.from({ length: 8 }, () => world.stream());
    let mostBytes = totalBytes;
    let largest = 0;
    for (let step = 0; step < 4000; step++) {
      const peer = peers[random(peers.length)]!;
      if (random(2) === 0) readAsItComes(peer, 4096 * kib);
      // In three reads it is late for long enough to shrink.
      for (let read = random(4); read > 0; read--) {
        peer.send();
        world.nowMs += random(300);
        peer.read(random(1 + peer.waitingBytes / 4));
      }
      if (step === 2000) {
        peers = [...peers, ...Array.from({ length: 24 }, () => world.stream())];
        mostBytes += 24 * 128 * kib;
      }
      const held = peers.reduce((sum, { mayBytes, waitingBytes }) => sum + mayBytes + waitingBytes, 0);
      assert.ok(held <= mostBytes, `${held / kib} KiB at step ${step}`);
      largest = Math.max(largest, held);
    }
    assert.ok(largest > totalBytes, 'windows had grown before the last streams came');
  });

  it('give back what they had when all streams are closed, however late their readers were', () => {
    const world = new World();
    const random = randomNumbers(3);
    for (let life = 0; life < 200; life++) {
      const peer = world.stream();
      readAsItComes(peer, random(16 * 1024) * kib);
      for (let late = random(6); late > 0; late--) {
        peer.send();
        world.nowMs += random(500);
        peer.read(random(peer.waitingBytes + 1));
      }
      peer.window.close();
    }
    const sizes = [world.stream(), world.stream(), world.stream()].map((peer) => {
      readAsItComes(peer, 64 * 1024 * kib);
      return peer.mayBytes / kib;
    });
    assert.deepEqual(sizes, [4096, 4096, 4096]);
  });

  it('are at least the first ones', () => {
    const world = new World({ totalBytes: 100 * kib });
    const peers = [world.stream(), world.stream()];
    for (const peer of peers) {
      for (let trip = 0; trip < 10; trip++) {
        assert.equal(peer.send(), 128 * kib);
        peer.read();
      }
    }
  });
});

describe('an engine with a small first window', () => {
  function startedPair(): { client: EngineProbe; server: EngineProbe } {
    const limits = { firstWindowBytes: 128 * kib, streamWindowBytes: 4096 * kib, connectionWindowBytes: 16_384 * kib };
    const pair = { client: new EngineProbe('client', limits), server: new EngineProbe('server', limits) };
    roundTrip(pair.client, pair.server);
    return pair;
  }

  /** What each has to say reaches the other, and then the answers to it. */
  function roundTrip(one: EngineProbe, other: EngineProbe): void {
    const [fromOne, fromOther] = [one.engine.pull(1e9), other.engine.pull(1e9)].map((parts) => Buffer.concat(parts));
    other.engine.receive(fromOne ?? Buffer.alloc(0));
    one.engine.receive(fromOther ?? Buffer.alloc(0));
  }

  it('carries 32 MiB over a long road in 24 round trips, where a window that stays would take 256', () => {
    const { client, server } = startedPair();
    const { stream } = client.request();
    roundTrip(client, server);
    server.engine.respond(server.streams[0]!.stream, [[':status', '200']], false);
    roundTrip(client, server);
    for (let block = 0; block < 512; block++) client.engine.write(stream, Buffer.alloc(64 * kib));
    const received = (): number => server.streams[0]!.received.reduce((sum, chunk) => sum + chunk.length, 0);
    let trips = 0;
    while (received() < 32 * kib * kib) {
      roundTrip(client, server);
      trips += 1;
      assert.ok(trips < 60, `${received()} bytes after ${trips} round trips`);
    }
    // Data goes one way in a trip, and the credit for it comes back in the next.
    assert.ok(trips <= 48, `${trips} half round trips`);
  });

  it('announces the first window, and no credit to an unread stream', () => {
    const { client, server } = startedPair();
    server.consumes = false;
    const { stream } = client.request();
    for (let block = 0; block < 64; block++) client.engine.write(stream, Buffer.alloc(64 * kib));
    for (let trip = 0; trip < 10; trip++) roundTrip(client, server);
    const received = server.streams[0]!.received.reduce((sum, chunk) => sum + chunk.length, 0);
    assert.equal(received, 128 * kib);
  });
});
