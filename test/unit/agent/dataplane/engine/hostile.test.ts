import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { EngineConnection } from '../../../../../agent/dataplane/engine/lean/engine-connection.js';
import { errorCode } from '../../../../../agent/dataplane/engine/http2-error-code.js';
import { encodeFrame, endHeaders, endStream, frameType } from '../../../../support/tunnel/tunnel-raw-peer.js';
import {
  clientHello,
  connectFrame,
  type EngineProbe,
  setting,
  startedClient,
  startedServer,
  testLimits,
  uint32,
} from '../../../../support/http2/engine-fixture.js';

const padded = 0x8;
const mebibyte = 1_048_576;

function data(stream: number, length: number, flags = 0): Buffer {
  return encodeFrame(frameType.data, flags, stream, Buffer.alloc(length));
}

function reset(stream: number): Buffer {
  return encodeFrame(frameType.rst, 0, stream, uint32(errorCode.cancel));
}

describe('a hostile peer', () => {
  it('opens no stream with what follows the frame that ended the connection', () => {
    const opened: number[] = [];
    const engine: EngineConnection = new EngineConnection({
      role: 'server',
      limits: testLimits,
      nowMs: () => 0,
      events: {
        onRequest: ({ id }) => void opened.push(id),
        onSettings: () => {},
        onPong: () => {},
        onGoaway: () => engine.abandon(errorCode.cancel),
        onStreamsGone: () => {},
        onFailure: () => assert.fail('nothing was wrong'),
      },
    });
    const goaway = encodeFrame(frameType.goaway, 0, 0, Buffer.concat([uint32(0), uint32(errorCode.internalError)]));
    engine.receive(Buffer.concat([clientHello(), connectFrame(1), goaway, connectFrame(3), data(3, 10)]));
    assert.deepEqual(opened, [1]);
    assert.equal(engine.streamCount, 0);
  });

  it('that fetches nothing cannot make WINDOW_UPDATEs pile up', () => {
    const probe = startedServer({ streamWindowBytes: 65_535, connectionWindowBytes: 65_535 });
    const block = Buffer.concat([data(1, 16_384), data(1, 16_384)]);
    for (let round = 0; round < 30_000 && probe.failure === null; round++) probe.engine.receive(block);
    assert.match(probe.failure ?? '', /ENHANCE_YOUR_CALM: answers that the peer does not read/);
  });

  it('that fetches nothing cannot make RST_STREAMs pile up', () => {
    const probe = startedServer({}, []);
    for (let round = 0; round < 30_000 && probe.failure === null; round++) {
      probe.nowMs += 2000;
      probe.engine.receive(encodeFrame(frameType.headers, endHeaders, 1 + 2 * round));
    }
    assert.match(probe.failure ?? '', /ENHANCE_YOUR_CALM: answers that the peer does not read/);
  });

  it('that fetches nothing gets no bytes ahead of a reset when much is waiting already', () => {
    const probe = startedServer({ maxStreams: 200 }, []);
    probe.engine.receive(
      encodeFrame(frameType.settings, 0, 0, Buffer.concat([setting(4, mebibyte), setting(5, mebibyte)])),
    );
    probe.engine.receive(encodeFrame(frameType.window, 0, 0, uint32(1_000 * mebibyte)));
    for (let stream = 1; stream < 200; stream += 2) {
      probe.engine.receive(connectFrame(stream));
      const { stream: made } = probe.streams.at(-1)!;
      probe.engine.write(made, Buffer.alloc(131_072));
      probe.engine.sendAhead(made);
      probe.engine.reset(made, errorCode.connectError);
    }
    const waiting = Buffer.concat(probe.engine.pull(0)).length;
    assert.ok(waiting < mebibyte, `${waiting} bytes`);
  });

  it('that gives no connection window cannot make us remember streams that it resets', () => {
    const probe = startedServer({}, []);
    fillWindow(probe);
    for (let round = 0; round < 5000; round++) {
      const id = 3 + 2 * round;
      probe.nowMs += 100;
      probe.engine.receive(connectFrame(id));
      const log = probe.streams.pop()!;
      probe.engine.write(log.stream, Buffer.alloc(100));
      probe.engine.receive(reset(id));
      probe.frames();
    }
    assert.equal(probe.failure, null);
    assert.ok(probe.engine.waitingStreams < 1000, `${probe.engine.waitingStreams} are kept`);
  });

  it('floods us with padding that carries nothing', () => {
    const probe = startedServer();
    const empty = encodeFrame(frameType.data, padded, 1, Buffer.from([3, 0, 0, 0]));
    let rounds = 0;
    for (; rounds < 5000 && probe.failure === null; rounds++) probe.engine.receive(empty);
    assert.ok(rounds > 900 && rounds < 5000, `after ${rounds}`);
    assert.equal(probe.sentCode(frameType.goaway), errorCode.enhanceYourCalm);
  });

  it('cannot make the window of an unread stream grow by padding', () => {
    const probe = startedServer({
      firstWindowBytes: 65_535,
      streamWindowBytes: 4 * mebibyte,
      connectionWindowBytes: 16 * mebibyte,
    });
    probe.consumes = false;
    const mostlyPadding = Buffer.concat([Buffer.from([255, 1]), Buffer.alloc(255)]);
    const frame = encodeFrame(frameType.data, padded, 1, mostlyPadding);
    let received = 0;
    for (; probe.streams[0]!.resetCode === null && received < 2 * 65_535; received++) probe.engine.receive(frame);
    assert.ok(received <= 65_536, `${received} bytes are kept`);
  });

  it('floods us with requests after our GOAWAY', () => {
    const probe = startedServer();
    probe.engine.goAway();
    let rounds = 0;
    for (; rounds < 5000 && probe.failure === null; rounds++) probe.engine.receive(connectFrame(3 + 2 * rounds));
    assert.ok(rounds > 900 && rounds < 5000, `after ${rounds}`);
  });

  it('cannot pretend to have answered a PING that was not sent, or not with these octets', () => {
    const probe = startedServer();
    const pong = (octets: Buffer): Buffer => encodeFrame(frameType.ping, 1, 0, octets);
    probe.engine.receive(pong(Buffer.alloc(8)));
    probe.engine.ping();
    const [ping] = probe.frames();
    probe.engine.receive(pong(Buffer.from('12345678')));
    assert.equal(probe.pongs, 0);
    probe.engine.receive(pong(ping!.payload));
    probe.engine.receive(pong(ping!.payload));
    assert.equal(probe.pongs, 1);
    probe.engine.ping();
    assert.notDeepEqual(probe.frames()[0]!.payload, ping!.payload);
  });

  it('that allows a single stream gets no second one', () => {
    const probe = startedClient();
    probe.engine.receive(encodeFrame(frameType.settings, 0, 0, setting(3, 1)));
    assert.throws(() => probe.request(), /no stream/);
    probe.engine.receive(reset(1));
    assert.equal(probe.request().stream.id, 3);
  });

  it('that ends what it began and what it answered leaves nothing in the tables', () => {
    const probe = startedServer({}, []);
    for (let round = 0; round < 2000; round++) {
      const id = 1 + 2 * round;
      probe.nowMs += 50;
      probe.engine.receive(connectFrame(id));
      const { stream } = probe.streams.pop()!;
      probe.engine.respond(stream, [[':status', '200']], false);
      if (round % 3 === 0) probe.engine.receive(reset(id));
      else if (round % 3 === 1) probe.engine.reset(stream, errorCode.connectError);
      else {
        probe.engine.receive(data(id, 5, endStream));
        probe.engine.end(stream);
      }
      probe.frames();
    }
    assert.deepEqual([probe.failure, probe.engine.streamCount, probe.engine.waitingStreams], [null, 0, 0]);
  });
});

/** Uses up the window of the connection, with stream 1. */
function fillWindow(probe: EngineProbe): void {
  probe.engine.receive(connectFrame(1));
  probe.engine.write(probe.streams.pop()!.stream, Buffer.alloc(65_535));
  probe.frames();
  probe.engine.receive(reset(1));
}
