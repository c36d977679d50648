import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { readInto } from '../../../../../agent/dataplane/sockets/read-into.js';
import { eventually, withDeadline } from '../../../../support/tunnel/tunnel-pair.js';

/** A dialled socket and the accepted one, which has not begun to read; both end with it. */
class Pair implements AsyncDisposable {
  readonly #server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true });
  #near: net.Socket | undefined;
  #far: net.Socket | undefined;

  static async start(): Promise<Pair> {
    const pair = new Pair();
    pair.#server.listen(0, '127.0.0.1');
    await once(pair.#server, 'listening');
    const accepted = once(pair.#server, 'connection');
    pair.#near = net.connect({ host: '127.0.0.1', port: (pair.#server.address() as net.AddressInfo).port });
    [pair.#far] = (await accepted) as [net.Socket];
    return pair;
  }

  get near(): net.Socket {
    return this.#near!;
  }

  get far(): net.Socket {
    return this.#far!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.near.destroy();
    this.far.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

describe('a socket that reads into a buffer', () => {
  it('lends that buffer for every read, and ends as any other', async () => {
    await using pair = await Pair.start();
    const buffer = Buffer.alloc(1000);
    const parts: Buffer[] = [];
    const lent = (bytes: Buffer): void => {
      assert.equal(bytes.buffer, buffer.buffer);
      parts.push(Buffer.from(bytes));
    };
    readInto({ socket: pair.far, buffer, onLoan: lent, onOwned: () => assert.fail('a buffer of its own') });
    pair.far.resume();
    const sent = Buffer.alloc(100_000, 'abcdefg');
    pair.near.end(sent);
    await withDeadline('the end', once(pair.far, 'end'));
    assert.ok(Buffer.concat(parts).equals(sent));
    assert.ok(parts.length >= 100);
  });

  it('stops while it is paused, and goes on where it was', async () => {
    await using pair = await Pair.start();
    let received = 0;
    const onLoan = (bytes: Buffer): void => {
      received += bytes.length;
      pair.far.pause();
    };
    readInto({ socket: pair.far, buffer: Buffer.alloc(4096), onLoan, onOwned: onLoan });
    pair.far.resume();
    pair.near.end(Buffer.alloc(10_000));
    const ended = once(pair.far, 'end');
    await eventually('the first read', () => received > 0);
    for (const expected of [4096, 8192, 10_000]) {
      await eventually('the next read', () => received >= expected);
      assert.equal(received, expected);
      pair.far.resume();
    }
    await withDeadline('the end', ended);
  });

  it('hands over what had been read before, first', async () => {
    await using pair = await Pair.start();
    const { far } = pair;
    pair.near.write('before');
    far.read(0);
    await eventually('something is read', () => far.readableLength > 0);
    const parts: string[] = [];
    const take = (bytes: Buffer): unknown => parts.push(bytes.toString());
    readInto({ socket: far, buffer: Buffer.alloc(100), onLoan: take, onOwned: take });
    far.resume();
    pair.near.end(' and after');
    await withDeadline('the end', once(far, 'end'));
    assert.equal(parts.join(''), 'before and after');
  });

  it('shares its buffer with other sockets', async () => {
    await using one = await Pair.start();
    await using other = await Pair.start();
    const buffer = Buffer.alloc(512);
    const hears = (socket: net.Socket): { text: string } => {
      const heard = { text: '' };
      const onLoan = (bytes: Buffer): void => void (heard.text += bytes.toString());
      readInto({ socket, buffer, onLoan, onOwned: onLoan });
      socket.resume();
      return heard;
    };
    const [first, second] = [hears(one.far), hears(other.far)];
    for (let round = 0; round < 100; round++) {
      one.near.write('x'.repeat(700));
      other.near.write('y'.repeat(700));
    }
    one.near.end();
    other.near.end();
    await withDeadline('the ends', Promise.all([once(one.far, 'end'), once(other.far, 'end')]));
    assert.deepEqual([first.text, second.text], ['x'.repeat(70_000), 'y'.repeat(70_000)]);
  });
});
