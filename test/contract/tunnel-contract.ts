import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IpAddress } from '../../shared/address.js';
import { ConnectionCut, TerminationSignal } from '../../agent/dataplane/connection/termination-signal.js';
import type { TunnelRequest } from '../../agent/dataplane/tunnel/tunnel.js';
import type { TunnelStream } from '../../agent/dataplane/engine/tunnel-stream.js';
import { clientIdentity, otherIdentity, serverIdentity, TestCa } from '../support/tunnel/tunnel-certificates.js';
import {
  closed,
  echo,
  eventually,
  readAll,
  serverIp,
  TunnelPair,
  withDeadline,
  type TunnelEngine,
} from '../support/tunnel/tunnel-pair.js';
import { workloadNamed } from '../support/routing/names.js';

const megabyte = 1_048_576;

/** What the data plane relies on in every tunnel engine: bytes, ends, refusals, pooling. */
export function runTunnelContract(engine: TunnelEngine): void {
  let ca: TestCa;
  before(async () => {
    ca = await TestCa.create();
  });

  describe(`bytes through a tunnel (${engine.name})`, () => {
    it('arrive in order in both directions, with the request as it was sent', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const requests: TunnelRequest[] = [];
      pair.onConnect = (request) => {
        requests.push(request);
        echo(request.accept());
      };
      const stream = await pair.stream();
      const sent = randomBytes(5 * megabyte);
      stream.end(sent);
      assert.ok((await readAll(stream)).equals(sent));
      const [request] = requests;
      assert.equal(request?.peerIdentity, clientIdentity);
      assert.equal(request.peerAddress.ip, '127.0.0.1');
      assert.equal(request.workload, 'shop/back');
      assert.deepEqual(request.authority, { ip: serverIp, port: 5432 });
      assert.deepEqual(request.headers, {
        forwarded: 'for=127.0.0.1',
        baggage: 'service.name=front',
        traceparent: '',
      });
    });

    it('flow from the server first', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      far.write('220 ready\r\n');
      const [greeting] = (await withDeadline('the greeting', once(near, 'data'))) as [Buffer];
      assert.equal(greeting.toString(), '220 ready\r\n');
    });

    it('flow from the server after the client has closed its side at once', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      near.end();
      assert.equal((await readAll(far)).length, 0);
      const answer = randomBytes(6 * megabyte);
      far.end(answer);
      assert.ok((await readAll(near)).equals(answer));
      assert.equal(near.wasReset, false);
      assert.equal(far.wasReset, false);
    });

    it('flow from the client after the server has closed its side', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      far.end();
      assert.equal((await readAll(near)).length, 0);
      const sent = randomBytes(6 * megabyte);
      near.end(sent);
      assert.ok((await readAll(far)).equals(sent));
    });

    for (const last of ['near', 'far'] as const) {
      it(`are all handed to the connection before the ${last} side closes, when it is the last to end`, async () => {
        await using pair = await TunnelPair.start(engine, ca, {
          streamWindowBytes: 32 * megabyte,
          tunnelWindowBytes: 32 * megabyte,
        });
        const streams = await pair.streamPair();
        const [ending, other] = last === 'near' ? [streams.near, streams.far] : [streams.far, streams.near];
        other.end();
        await readAll(ending);
        // All of it in one write, so that the end is sent while the write is under way.
        const sent = randomBytes(16 * megabyte);
        const atOther = readAll(other);
        ending.end(sent);
        await closed(ending);
        assert.equal(ending.writableFinished, true);
        assert.equal(ending.wasReset, false);
        assert.ok((await atOther).equals(sent));
      });
    }

    it('may be none at all', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      near.end();
      far.end();
      assert.equal((await readAll(near)).length, 0);
      assert.equal((await readAll(far)).length, 0);
      await eventually('the streams are gone', () => pair.client.counts().streams + pair.server.counts().streams === 0);
      assert.equal(pair.client.counts().tunnels, 1);
    });

    it('are held back by a reader that stalls, within the stream window', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      const block = Buffer.alloc(65_536, 1);
      let sent = 0;
      let isBlocked = false;
      const rssBefore = process.memoryUsage.rss();
      const pump = (): void => {
        isBlocked = false;
        while (sent < 100 * megabyte) {
          sent += block.length;
          if (!near.write(block)) {
            isBlocked = true;
            return;
          }
        }
        near.end();
      };
      near.on('drain', pump);
      pump();
      let last = -1;
      await eventually('the writer stands still', () => {
        const isStill = isBlocked && sent === last;
        last = sent;
        return isStill;
      });
      assert.ok(sent <= 6 * megabyte, `${sent} bytes were taken`);
      assert.ok(process.memoryUsage.rss() - rssBefore < 60 * megabyte);
      let received = 0;
      far.on('data', (chunk: Buffer) => (received += chunk.length));
      await withDeadline('the rest', once(far, 'end'), 20_000);
      assert.equal(received, 100 * megabyte);
    });

    it('of many streams fill both directions at once without a standstill', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const streams = await Promise.all(Array.from({ length: 20 }, () => pair.stream()));
      const payload = randomBytes(engine.bothWaysBytes ?? 4 * megabyte);
      const received = streams.map((stream) => readAll(stream));
      for (const stream of streams) stream.end(payload);
      for (const bytes of await Promise.all(received)) assert.ok(bytes.equals(payload));
    });

    it('of a stalled stream do not stall its siblings', async () => {
      // Node's client refuses streams when it keeps too much of others; how much that is follows from how many there may be.
      await using pair = await TunnelPair.start(engine, ca, { maxStreamsPerTunnel: 200 });
      const stalled: TunnelStream[] = [];
      for (let index = 0; index < 6; index++) {
        const { near } = await pair.streamPair();
        near.write(Buffer.alloc(8 * megabyte));
        stalled.push(near);
      }
      const sibling = await pair.stream();
      const sent = randomBytes(8 * megabyte);
      sibling.end(sent);
      assert.ok((await readAll(sibling)).equals(sent));
      assert.equal(pair.dialled.length, 1);
      for (const stream of stalled) stream.reset();
    });

    it('of thirty unread streams take a window each, and a thirty-first goes on', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const windowBytes = engine.firstWindowBytes ?? pair.settings.streamWindowBytes;
      const unread: { near: TunnelStream; far: TunnelStream }[] = [];
      for (let index = 0; index < 30; index++) {
        const streams = await pair.streamPair();
        streams.near.write(Buffer.alloc(megabyte));
        unread.push(streams);
      }
      const sibling = await pair.stream();
      const sent = randomBytes(8 * megabyte);
      sibling.end(sent);
      assert.ok((await readAll(sibling)).equals(sent));
      const waiting = unread.map(({ far }) => far.readableLength);
      assert.ok(Math.max(...waiting) <= windowBytes, `${Math.max(...waiting)} bytes wait in a stream`);
      for (const { near } of unread) near.reset();
    });
  });

  describe(`a reset in a tunnel (${engine.name})`, () => {
    for (const side of ['near', 'far'] as const) {
      it(`by the ${side} side comes out as a reset on the other, never as an end`, async () => {
        await using pair = await TunnelPair.start(engine, ca);
        const streams = await pair.streamPair();
        const [resetting, other] = side === 'near' ? [streams.near, streams.far] : [streams.far, streams.near];
        let hasCleanEnd = false;
        other.on('end', () => (hasCleanEnd ||= !other.wasReset));
        other.resume();
        resetting.write('half a me');
        resetting.reset();
        await closed(other);
        assert.equal(other.wasReset, true);
        assert.match(other.resetDetail, /RST_STREAM CONNECT_ERROR/);
        assert.equal(hasCleanEnd, false);
        assert.equal(other.isGone, true);
      });
    }

    it('while bytes are waiting behind a stalled reader frees both sides', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      far.pause();
      near.write(Buffer.alloc(20 * megabyte));
      near.reset();
      await closed(far);
      assert.equal(far.wasReset, true);
      await eventually('nothing is buffered', () => pair.client.counts().streams + pair.server.counts().streams === 0);
    });

    it('after the own side was closed is still one', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { near, far } = await pair.streamPair();
      near.end();
      await readAll(far);
      far.write('truncated');
      far.reset();
      near.resume();
      await closed(near);
      assert.equal(near.wasReset, true);
    });

    it('two thousand times in a row costs no other stream', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const survivor = await pair.streamPair();
      for (let index = 0; index < 2000; index += 5) {
        const streams = await Promise.all(Array.from({ length: 5 }, () => pair.stream()));
        for (const stream of streams) stream.reset();
      }
      survivor.near.end('alive');
      assert.equal((await readAll(survivor.far)).toString(), 'alive');
      assert.equal(survivor.far.wasReset, false);
    });
  });

  describe(`opening a stream (${engine.name})`, () => {
    it('shares one handshake when many ask at once, and takes another tunnel for every hundred', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const first = await Promise.all(Array.from({ length: 20 }, () => pair.stream()));
      assert.equal(pair.dialled.length, 1);
      const more = await Promise.all(Array.from({ length: 230 }, () => pair.stream()));
      assert.ok(pair.dialled.length >= 3 && pair.dialled.length <= 4, `${pair.dialled.length} handshakes`);
      assert.equal(pair.client.counts().streams, 250);
      for (const tunnel of pair.client.dump()) assert.ok(tunnel.streams <= 100);
      const payloads = [...first, ...more].map((stream, index) => {
        stream.end(`stream ${index}`);
        return readAll(stream);
      });
      const texts = (await Promise.all(payloads)).map(String);
      assert.deepEqual(
        texts,
        texts.map((_text, index) => `stream ${index}`),
      );
    });

    it('keeps the order in which it was asked for, over several tunnels too', async () => {
      await using pair = await TunnelPair.start(engine, ca, { maxStreamsPerTunnel: 2 });
      const other = { authority: { ip: serverIp, port: 6379 } };
      const arrived: TunnelRequest[] = [];
      pair.onConnect = (request) => {
        if (request.authority.port === other.authority.port) echo(request.accept());
        else arrived.push(request);
      };
      const named = (index: number) => ({ headers: { forwarded: '', baggage: String(index), traceparent: '' } });
      const opening = Array.from({ length: 5 }, (_, index) => pair.stream(named(index)));
      let answered = 0;
      for (const expected of [2, 4, 5]) {
        await eventually(`${expected} of them arrive`, () => arrived.length >= expected);
        // Streams to another port take another tunnel meanwhile, and do not wait.
        if (expected === 2) await Promise.all([pair.stream(other), pair.stream(other)]);
        assert.equal(arrived.length, expected);
        for (const request of arrived.slice(answered)) echo(request.accept());
        answered = expected;
      }
      await Promise.all(opening);
      const order = arrived.map(({ headers }) => headers.baggage);
      assert.deepEqual(order, ['0', '1', '2', '3', '4']);
    });

    it('keeps apart the tunnels of different sources', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      await pair.stream();
      await pair.stream({ sourceWorkload: workloadNamed('shop/front-2') });
      assert.equal(pair.dialled.length, 2);
    });

    it('is refused with the reason and the rule of the other agent', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const rule = { kind: 'SegmentationRule', name: 'db-only' } as const;
      pair.onConnect = (request) => request.refuse({ reason: 'POLICY_DENY', rule });
      const result = await pair.open();
      assert.equal(result.ok, false);
      assert.equal(!result.ok && result.reason, 'POLICY_DENY');
      assert.deepEqual(!result.ok && result.rule, rule);
      assert.equal(!result.ok && result.isRetryable, false);
      await eventually('no stream is left', () => pair.client.counts().streams + pair.server.counts().streams === 0);
    });

    it('two thousand times refused stays on one tunnel', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      pair.onConnect = (request) => request.refuse({ reason: 'CONNECT_REFUSED', rule: null });
      for (let index = 0; index < 2000; index += 10) {
        const results = await Promise.all(Array.from({ length: 10 }, () => pair.open()));
        for (const result of results) assert.equal(!result.ok && result.reason, 'CONNECT_REFUSED');
      }
      assert.equal(pair.dialled.length, 1);
    });

    it('is refused when the authority is not the address that was dialled', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const result = await pair.open({ authority: { ip: '127.0.0.10' as IpAddress, port: 80 } });
      assert.equal(!result.ok && result.reason, 'PROTOCOL_ERROR');
      assert.equal(pair.server.refusedHandshakes().bad_request, 1);
    });

    it('ends with the cut that its signal was raised with, and tells the other agent', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const asked = new Promise<TunnelRequest>((resolve) => {
        pair.onConnect = resolve;
      });
      const signal = new TerminationSignal();
      const opening = pair.client.open(pair.authorized({ signal }), pair.target());
      const request = await asked;
      const rule = { kind: 'SegmentationRule', name: 'x' } as const;
      signal.raise(new ConnectionCut({ reason: 'POLICY_TERMINATED', rule }));
      const result = await opening;
      assert.equal(!result.ok && result.reason, 'POLICY_TERMINATED');
      assert.deepEqual(!result.ok && result.rule, rule);
      await eventually('the other agent knows', () => request.signal.cut !== null);
      const late = request.accept();
      late.resume();
      await eventually('the late stream is reset', () => late.wasReset);
    });

    it('gives up when the other agent does not answer', async () => {
      await using pair = await TunnelPair.start(engine, ca, { connectTimeoutMs: 200 });
      pair.onConnect = () => {};
      const result = await pair.open();
      assert.equal(!result.ok && result.reason, 'CONNECT_TIMEOUT');
    });

    it('says that nothing takes tunnels at the address', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const { port } = pair;
      await pair.stopListening();
      Object.defineProperty(pair, 'port', { value: port });
      const result = await pair.open();
      assert.equal(!result.ok && result.reason, 'NOT_MESHED_PEER');
      assert.equal(!result.ok && result.isRetryable, true);
    });

    it('without an own certificate, or with one that has expired, does not dial', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      const none = await pair.open({ sourceIdentity: otherIdentity });
      assert.equal(!none.ok && none.reason, 'NO_RULES_YET');
      pair.client.replaceCertificates(await ca.issue(clientIdentity, { startsInMs: -7_200_000, ttlMs: 60_000 }));
      const expired = await pair.open();
      assert.equal(!expired.ok && expired.reason, 'CERT_EXPIRED');
      assert.equal(pair.dialled.length, 0);
    });

    it('to an address that proves another identity sends nothing', async () => {
      await using pair = await TunnelPair.start(engine, ca);
      let requests = 0;
      pair.onConnect = () => (requests += 1);
      const result = await pair.open({ destinationIdentity: otherIdentity });
      assert.equal(!result.ok && result.reason, 'PEER_IDENTITY');
      assert.match(result.ok ? '' : result.detail, new RegExp(serverIdentity));
      assert.equal(requests, 0);
      assert.equal(pair.client.counts().tunnels, 0);
    });
  });
}
