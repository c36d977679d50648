import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { describe, it } from 'node:test';
import type { Breakage, PeerOwner, RelayPeer } from '../../agent/dataplane/relay/relay-peer.js';
import { eventually, withDeadline } from '../support/tunnel/tunnel-pair.js';

const megabyte = 1_048_576;

/** A side of a relay, and the other end of its connection. */
export type PeerPair = AsyncDisposable & {
  readonly peer: RelayPeer;
  readonly far: Duplex;
  /** RST from the other end. */
  readonly resetFar: () => void;
};

export type PeerKind = {
  readonly name: string;
  readonly make: () => Promise<PeerPair>;
};

/** Reads all that a side tells, and notes it. */
class Owner implements PeerOwner {
  readonly #hash = createHash('sha256');
  bytes = 0;
  drained = 0;
  ends = 0;
  gone = 0;
  breakage: Breakage | null = null;
  /** The order of what was told; bytes once. */
  readonly told: string[] = [];

  onBytes(bytes: Buffer): void {
    if (this.told.at(-1) !== 'bytes') this.told.push('bytes');
    this.bytes += bytes.length;
    this.#hash.update(bytes);
    // Lent.
    bytes.fill(0);
  }

  onDrained(): void {
    this.drained += 1;
  }

  onEnd(): void {
    this.ends += 1;
    this.told.push('end');
  }

  onBroken(breakage: Breakage): void {
    this.breakage ??= breakage;
    if (this.told.at(-1) !== 'broken') this.told.push('broken');
  }

  onGone(): void {
    this.gone += 1;
    this.told.push('gone');
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}

function opened({ peer }: PeerPair): Owner {
  const owner = new Owner();
  peer.open(owner);
  peer.resume();
  return owner;
}

/** What a relay relies on in each kind of side. */
export function runRelayPeerContract({ name, make }: PeerKind): void {
  const gone = async (owner: Owner): Promise<void> => {
    await eventually('the side is gone', () => owner.gone > 0);
    // Once only.
    await new Promise((resolve) => void setImmediate(resolve));
    assert.equal(owner.gone, 1);
  };

  describe(`a side of a relay (${name})`, () => {
    it('moves much in both directions at once, and both ends come behind it', async () => {
      await using pair = await make();
      const owner = opened(pair);
      const [up, down] = [randomBytes(24 * megabyte), randomBytes(24 * megabyte)];
      const received = createHash('sha256');
      let receivedBytes = 0;
      pair.far.on('data', (chunk: Buffer) => {
        receivedBytes += chunk.length;
        received.update(chunk);
      });
      const farEnd = once(pair.far, 'end');
      pair.far.end(up);
      await sendAll(pair.peer, owner, down, 50_000);
      pair.peer.end();
      await withDeadline('the end at the other side', farEnd);
      await eventually('the end from the other side', () => owner.ends === 1);
      assert.equal(receivedBytes, down.length);
      assert.equal(received.digest('hex'), digest(down));
      assert.equal(owner.digest(), digest(up));
      await gone(owner);
      assert.deepEqual(owner.told, ['bytes', 'end', 'gone']);
      assert.deepEqual([pair.peer.breakage, pair.peer.hasTakenAll, pair.peer.isGone], [null, true, true]);
    });

    it('sends on after the other end has ended', async () => {
      await using pair = await make();
      const owner = opened(pair);
      pair.far.end('question');
      await eventually('the end', () => owner.ends === 1);
      assert.equal(owner.bytes, 8);
      pair.peer.send(Buffer.from('answer'));
      pair.peer.end();
      assert.equal(String(await readAll(pair.far)), 'answer');
      await gone(owner);
      assert.equal(pair.peer.breakage, null);
    });

    it('reads on after its own end', async () => {
      await using pair = await make();
      const owner = opened(pair);
      pair.peer.end();
      await readAll(pair.far);
      assert.equal(owner.gone, 0);
      pair.far.end(Buffer.alloc(megabyte, 1));
      await gone(owner);
      assert.equal(owner.bytes, megabyte);
      assert.deepEqual(owner.told, ['bytes', 'end', 'gone']);
    });

    it('tells a reset, which is no end', async () => {
      await using pair = await make();
      const owner = opened(pair);
      pair.resetFar();
      await gone(owner);
      assert.deepEqual([owner.ends, owner.breakage?.isReset], [0, true]);
      assert.equal(pair.peer.breakage?.isReset, true);
    });

    it('never makes an end of a reset that comes with bytes', async () => {
      for (let round = 0; round < 20; round += 1) {
        await using pair = await make();
        const owner = opened(pair);
        pair.far.write(Buffer.alloc(1 + round * 3000, 1));
        if (round % 2 === 0) await eventually('the bytes', () => owner.bytes > 0);
        pair.resetFar();
        await eventually('the reset', () => owner.breakage !== null);
        pair.peer.reset();
        await gone(owner);
        assert.deepEqual([owner.ends, owner.breakage?.isReset], [0, true]);
      }
    });

    it('tells a reset behind an end when it sends', async () => {
      await using pair = await make();
      const owner = opened(pair);
      pair.far.end('last');
      await eventually('the end', () => owner.ends === 1);
      pair.resetFar();
      await eventually('the reset', () => {
        if (!pair.peer.isGone) pair.peer.send(Buffer.from('x'));
        return owner.breakage !== null;
      });
      assert.equal(owner.breakage?.isReset, true);
      await gone(owner);
      assert.equal(owner.bytes, 4);
    });

    it('tells nothing while it is paused, and loses nothing of it', async () => {
      await using pair = await make();
      const owner = opened(pair);
      pair.far.write('first');
      await eventually('the first bytes', () => owner.bytes === 5);
      pair.peer.pause();
      assert.equal(pair.peer.isPaused, true);
      pair.far.end(Buffer.alloc(100_000, 1));
      for (let turns = 0; turns < 20; turns += 1) await new Promise((resolve) => void setImmediate(resolve));
      assert.deepEqual([owner.bytes, owner.ends], [5, 0]);
      pair.peer.resume();
      await eventually('the rest', () => owner.ends === 1);
      assert.equal(owner.bytes, 100_005);
    });

    it('says how much waits for a late other end, and when that is gone', async () => {
      await using pair = await make();
      const owner = opened(pair);
      const block = Buffer.alloc(30_000, 7);
      let sent = 0;
      // The kernel, or the tunnel, takes some of it although nothing reads.
      for (let stillTurns = 0; stillTurns < 50; stillTurns += 1) {
        while (pair.peer.waitingBytes < pair.peer.bounds.usualBytes) {
          stillTurns = 0;
          const waits = pair.peer.send(block);
          sent += block.length;
          assert.ok(waits === 0 || waits === pair.peer.waitingBytes);
          if (waits === 0) break;
        }
        await new Promise((resolve) => void setImmediate(resolve));
      }
      assert.ok(pair.peer.waitingBytes <= pair.peer.bounds.usualBytes + block.length);
      const { drained } = owner;
      let received = 0;
      pair.far.on('data', (chunk: Buffer) => (received += chunk.length));
      await eventually('all of it', () => received === sent);
      await eventually('nothing waits', () => pair.peer.waitingBytes === 0);
      assert.ok(owner.drained > drained);
    });

    it('keeps single bytes of one turn together, and lent memory is not kept', async () => {
      await using pair = await make();
      opened(pair);
      const lent = Buffer.alloc(1);
      const wanted: number[] = [];
      for (let index = 0; index < 1000; index += 1) {
        lent[0] = index % 251;
        wanted.push(index % 251);
        pair.peer.send(lent);
      }
      lent[0] = 255;
      // A tunnel gathers behind it.
      if (pair.peer.socket !== null) assert.equal(pair.peer.waitingBytes, 999, 'only the first one goes at once');
      pair.peer.flush();
      pair.peer.end();
      assert.deepEqual([...(await readAll(pair.far))], wanted);
    });

    it('loses nothing of what was sent right before its end', async () => {
      for (const bytes of [1, 5000, 9000, 60_000, 3 * megabyte]) {
        await using pair = await make();
        opened(pair);
        const all = randomBytes(bytes);
        for (let at = 0; at < bytes; at += 60_000) pair.peer.send(all.subarray(at, at + 60_000));
        pair.peer.end();
        assert.equal(digest(await readAll(pair.far)), digest(all));
      }
    });

    it('resets the other end, once, and is gone', async () => {
      await using pair = await make();
      const owner = opened(pair);
      const broken = seesReset(pair.far);
      pair.peer.reset();
      pair.peer.reset();
      await withDeadline('the reset', broken);
      await gone(owner);
      assert.equal(pair.peer.send(Buffer.from('late')), 0);
    });

    it('can be closed by who asked the kernel, with what that said', async () => {
      await using pair = await make();
      if (pair.peer.socket === null) return;
      const owner = opened(pair);
      assert.ok(pair.peer.socket.fd > 2);
      pair.peer.socket.breakWith('ETIMEDOUT');
      await gone(owner);
      assert.deepEqual(owner.breakage, { detail: 'ETIMEDOUT', isReset: false });
      assert.equal(pair.peer.socket.isClosed, true);
      assert.throws(() => pair.peer.socket?.fd, { code: 'EBADF' });
    });
  });
}

/** In blocks, and stops while more than its bound waits. */
async function sendAll(peer: RelayPeer, owner: Owner, bytes: Buffer, blockBytes: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += blockBytes) {
    const { drained } = owner;
    if (peer.send(Buffer.from(bytes.subarray(at, at + blockBytes))) < peer.bounds.unprovenBytes) continue;
    await eventually('room', () => owner.drained > drained);
  }
}

async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await withDeadline('the end', once(stream, 'end'));
  return Buffer.concat(chunks);
}

async function seesReset(stream: Duplex): Promise<void> {
  stream.resume();
  await new Promise<void>((resolve) => stream.once('close', () => resolve()));
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
