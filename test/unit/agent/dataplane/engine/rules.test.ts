import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { errorCode } from '../../../../../agent/dataplane/engine/http2-error-code.js';
import {
  encodeFrame,
  encodeHeaders,
  endHeaders,
  endStream,
  frameType,
} from '../../../../support/tunnel/tunnel-raw-peer.js';
import {
  clientHello,
  connectFrame,
  EngineProbe,
  setting,
  startedClient,
  startedServer,
  uint32,
} from '../../../../support/http2/engine-fixture.js';
import { checkRule, data } from '../../../../support/http2/rule.js';
import { rulesOfFrames } from '../../../../support/http2/rules-of-frames.js';
import { rulesOfMessages } from '../../../../support/http2/rules-of-messages.js';

/*
 * Every MUST of RFC 9113 §3 to §8 that binds an endpoint of CONNECT tunnels, under the number of its section: here those
 * of a receiver, in h2-sender-rules.test.ts those of a sender; h2-flow-control.test.ts has the windows (§5.2, §6.9),
 * h2-hpack.test.ts has RFC 7541, h2-hostile.test.ts and h2-floods.test.ts have §10.5. The tunnel contract has what needs a
 * connection: ALPN (§3.2), the close after GOAWAY (§5.4.1), FIN and RST (§8.5), requests that may be tried again (§8.7).
 * Without a subject here: push (§8.4; we refuse it), cookies (§8.2.3), https URIs (§8.3.1), content-length (§8.1.1: a tunnel
 * has none, RFC 9110 §9.3.6, and the content of any other message is dropped unread).
 */
const connectBlock = encodeHeaders({ ':method': 'CONNECT', ':authority': '10.0.0.1:80' });

describe('the engine answers a breach of RFC 9113 with the right code and scope, and nothing else with an error', () => {
  for (const rule of [...rulesOfFrames, ...rulesOfMessages]) it(rule.rule, () => checkRule(rule));

  it('§5.1 HEADERS that cross our own reset are decoded and dropped', () => {
    const probe = startedServer();
    probe.engine.reset(probe.streams[0]!.stream, errorCode.connectError);
    const indexed = Buffer.from([0x40, 1, 0x78, 1, 0x79]);
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders | endStream, 1, indexed));
    const again = Buffer.concat([encodeHeaders({ ':method': 'CONNECT', ':authority': 'a:1' }), Buffer.from([0xbe])]);
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders, 3, again));
    assert.equal(probe.failure, null);
    assert.equal(probe.streams[1]?.request?.['x'], 'y');
  });

  it('§6.4 a reset of the peer is told with its code', () => {
    const probe = startedServer();
    probe.engine.receive(encodeFrame(frameType.rst, 0, 1, uint32(errorCode.connectError)));
    assert.equal(probe.streams[0]?.resetCode, errorCode.connectError);
    assert.equal(probe.engine.streamCount, 0);
  });

  it('§6.5.3 SETTINGS are acknowledged in their order, acknowledgements are not', () => {
    const probe = new EngineProbe('server');
    probe.engine.receive(clientHello());
    probe.engine.receive(encodeFrame(frameType.settings, 1, 0));
    const settings = probe.frames().filter(({ type }) => type === frameType.settings);
    assert.deepEqual(
      settings.map(({ flags, payload }) => [flags, payload.length > 0]),
      [
        [0, true],
        [1, false],
      ],
    );
  });

  it('§6.7 a PING is answered with its own octets', () => {
    const probe = startedServer();
    probe.engine.receive(encodeFrame(frameType.ping, 0, 0, Buffer.from('12345678')));
    const [pong] = probe.frames();
    assert.deepEqual([pong?.type, pong?.flags, pong?.payload.toString()], [frameType.ping, 1, '12345678']);
    probe.engine.ping();
    const [ping] = probe.frames();
    assert.equal(ping?.flags, 0);
    probe.engine.receive(encodeFrame(frameType.ping, 1, 0, ping.payload));
    assert.equal(probe.pongs, 1);
  });

  it('§6.8 a GOAWAY refuses the streams above the last one, and there are no new ones', () => {
    const probe = startedClient();
    probe.request();
    probe.engine.receive(
      encodeFrame(frameType.goaway, 0, 0, Buffer.concat([uint32(1), uint32(0), Buffer.from('bye')])),
    );
    assert.equal(probe.streams[0]?.resetCode, null);
    assert.equal(probe.streams[1]?.resetCode, errorCode.refusedStream);
    assert.equal(probe.goaways[0]?.debugData.toString(), 'bye');
    assert.throws(() => probe.request(), /no stream/);
  });

  it('§6.8 after our GOAWAY, newer streams are dropped and older ones live on', () => {
    const probe = startedServer();
    probe.engine.goAway();
    const [goaway] = probe.frames();
    assert.equal(goaway?.payload.readUInt32BE(), 1);
    probe.engine.receive(Buffer.concat([connectFrame(3), data(3, 'x'), data(1, 'y')]));
    assert.equal(probe.streams.length, 1);
    assert.equal(Buffer.concat(probe.streams[0]!.received).toString(), 'y');
    assert.deepEqual(probe.frames(), []);
  });

  it('§4.3 a block counts for the table of the connection, whatever becomes of its stream', () => {
    const indexed = (name: string): Buffer => Buffer.from([0x40, 1, name.charCodeAt(0), 1, 0x31]);
    const probe = startedServer({ maxStreams: 1 });
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders, 3, indexed('m')));
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders, 5, Buffer.concat([connectBlock, indexed('r')])));
    const long = encodeHeaders({ x: 'y'.repeat(120) });
    const many = Buffer.concat([connectBlock, ...Array.from({ length: 40 }, () => long), indexed('l')]);
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders, 7, many));
    probe.engine.receive(encodeFrame(frameType.rst, 0, 1, uint32(8)));
    probe.frames();
    // The newest entry of the table first: l, r, m.
    const all = Buffer.concat([connectBlock, Buffer.from([0xbe, 0xbf, 0xc0])]);
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders, 9, all));
    assert.equal(probe.failure, null);
    const fields = probe.streams.at(-1)?.request;
    assert.deepEqual([fields?.['l'], fields?.['r'], fields?.['m']], ['1', '1', '1']);
  });

  it('§5.1 half-closed (local): what comes is delivered', () => {
    const probe = startedServer();
    probe.engine.end(probe.streams[0]!.stream);
    probe.engine.receive(Buffer.concat([data(1, 'x'), data(1, 'y', 1)]));
    assert.equal(Buffer.concat(probe.streams[0]!.received).toString(), 'xy');
    assert.equal(probe.streams[0]?.hasEnded, true);
    assert.equal(probe.engine.streamCount, 0);
  });

  it('§6.5 the last of several values of a setting holds', () => {
    const probe = startedServer();
    const values = Buffer.concat([setting(4, 10), setting(4, 1), setting(4, 3)]);
    probe.engine.receive(encodeFrame(frameType.settings, 0, 0, values));
    probe.engine.receive(connectFrame(3));
    probe.frames();
    probe.engine.write(probe.streams[1]!.stream, Buffer.alloc(100));
    assert.equal(probe.frames()[0]?.payload.length, 3);
  });

  it('§6.7 an acknowledgement of a PING is not answered', () => {
    const probe = startedServer();
    probe.engine.receive(encodeFrame(frameType.ping, 1, 0, Buffer.alloc(8)));
    assert.deepEqual(probe.frames(), []);
  });

  it('§6.8 what is dropped after our GOAWAY still counts for the table and the window', () => {
    const probe = startedServer({ connectionWindowBytes: 65_535 });
    probe.engine.goAway();
    probe.frames();
    const indexed = Buffer.from([0x40, 1, 0x78, 1, 0x79]);
    const dropped = encodeFrame(frameType.headers, endHeaders, 3, Buffer.concat([connectBlock, indexed]));
    probe.engine.receive(Buffer.concat([dropped, data(3, Buffer.alloc(60_000))]));
    const updates = probe.frames().filter(({ type, stream }) => type === frameType.window && stream === 0);
    assert.equal(
      updates.reduce((sum, { payload }) => sum + payload.readUInt32BE(), 0),
      60_000,
    );
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders, 5, Buffer.from([0xbe])));
    assert.equal(probe.failure, null);
  });

  it('§6.8 an unknown code in a GOAWAY is told as it came', () => {
    const probe = startedClient();
    probe.engine.receive(encodeFrame(frameType.goaway, 0, 0, Buffer.concat([uint32(1), uint32(0xdead)])));
    assert.equal(probe.goaways[0]?.code, 0xdead);
  });
});
