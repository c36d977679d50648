import { before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import type { TunnelRequest } from '../../../../../agent/dataplane/tunnel/tunnel.js';
import type { TunnelStream } from '../../../../../agent/dataplane/engine/tunnel-stream.js';
import { ConnectionCut, TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import { TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { leanClientEngine, leanEngine, leanServerEngine } from '../../../../support/tunnel/tunnel-lean-engine.js';
import { closed, eventually, readAll, TunnelPair, type TunnelEngine } from '../../../../support/tunnel/tunnel-pair.js';
import { idleMsOf } from '../../../../support/machine-factor.js';
import { patientMs } from '../../../../lab/patience.js';
import { propertyRuns } from '../../../../support/property-runs.js';

const small = Buffer.from('a message of an application');
const large = Buffer.alloc(200_000, 7);

/** What both ends do with one stream; resolves when the client's half is gone. */
type Ending = {
  readonly name: string;
  readonly server: (request: TunnelRequest) => void;
  readonly client: (pair: TunnelPair, path: number) => Promise<void>;
};

async function use(pair: TunnelPair, port: number, act: (stream: TunnelStream) => void): Promise<void> {
  const stream = await pair.stream({ authority: { ip: pair.target().destinationIp, port } });
  const gone = closed(stream);
  act(stream);
  await gone;
}

function answer(request: TunnelRequest, act: (stream: TunnelStream) => void): void {
  act(request.accept());
}

const endings: readonly Ending[] = [
  {
    name: 'both end in order',
    server: (request) =>
      answer(request, (stream) => {
        stream.resume();
        stream.once('end', () => stream.end(small));
      }),
    client: async (pair, port) =>
      use(pair, port, (stream) => {
        stream.end(small);
        stream.resume();
      }),
  },
  {
    name: 'the server ends first',
    server: (request) => answer(request, (stream) => stream.resume().end(large)),
    client: async (pair, port) =>
      use(pair, port, (stream) => {
        stream.resume();
        stream.once('end', () => stream.end());
      }),
  },
  {
    name: 'the client resets at once',
    server: (request) => answer(request, (stream) => stream.resume()),
    client: async (pair, port) => use(pair, port, (stream) => stream.reset()),
  },
  {
    name: 'the client resets with bytes waiting on both sides',
    server: (request) => answer(request, (stream) => stream.write(large)),
    client: async (pair, port) =>
      use(pair, port, (stream) => {
        stream.write(large);
        stream.once('readable', () => stream.reset());
      }),
  },
  {
    name: 'the server resets after the client has ended',
    server: (request) =>
      answer(request, (stream) => {
        stream.resume();
        stream.once('end', () => stream.reset());
      }),
    client: async (pair, port) => use(pair, port, (stream) => stream.resume().end(small)),
  },
  {
    name: 'both reset at once',
    // Not in the turn of the answer: nghttp2 would drop the answer.
    server: (request) => answer(request, (stream) => setImmediate(() => stream.resume().reset())),
    client: async (pair, port) => use(pair, port, (stream) => setImmediate(() => stream.resume().reset())),
  },
  {
    name: 'the server destroys its half unread',
    server: (request) => answer(request, (stream) => stream.once('readable', () => stream.destroy())),
    client: async (pair, port) => use(pair, port, (stream) => stream.resume().write(small)),
  },
  {
    name: 'the server refuses',
    server: (request) => request.refuse({ reason: 'POLICY_DENY', rule: null }),
    client: async (pair, port) => {
      const result = await pair.open({ authority: { ip: pair.target().destinationIp, port } });
      assert.equal(!result.ok && result.reason, 'POLICY_DENY');
    },
  },
  {
    name: 'the client gives up before the answer',
    server: (request) => void setImmediate(() => answer(request, (stream) => stream.resume())),
    client: async (pair, port) => {
      const signal = new TerminationSignal();
      signal.raise(new ConnectionCut({ reason: 'CLIENT_RESET' }));
      const authority = { ip: pair.target().destinationIp, port };
      const result = await pair.client.open(pair.authorized({ authority, signal }), pair.target());
      assert.equal(result.ok, false);
    },
  },
];
/** The port that is asked for says which ending it is to be. */
const firstPort = 1000;

async function soak(engine: TunnelEngine, ca: TestCa, total: number): Promise<void> {
  await using pair = await TunnelPair.start(engine, ca);
  pair.onConnect = (request) => endings[request.authority.port - firstPort]!.server(request);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < total) {
      const at = next++ % endings.length;
      await endings[at]!.client(pair, firstPort + at);
    }
  };
  const live = await pair.stream({ authority: { ip: pair.target().destinationIp, port: firstPort } });
  await Promise.all(Array.from({ length: 40 }, worker));
  live.end('still here');
  assert.equal((await readAll(live)).toString(), small.toString());
  await eventually('no stream is left', () => pair.client.counts().streams + pair.server.counts().streams === 0);
  // A session whose engine still knows a stream does not close by itself.
  const drainMs = patientMs(60_000);
  const tookMs = await idleMsOf(() => Promise.all([pair.client.drain(drainMs), pair.server.drain(drainMs)]));
  assert.ok(tookMs < 30_000, 'a tunnel had to be cut');
}

describe('streams that are opened, closed, reset and refused by the thousand leave nothing behind', () => {
  let ca: TestCa;
  before(async () => {
    ca = await TestCa.create();
  });
  it('with the lean engine on both sides', async () => soak(leanEngine, ca, propertyRuns(12_000)));
  it('with a lean client', async () => soak(leanClientEngine, ca, propertyRuns(4000)));
  it('with a lean server', async () => soak(leanServerEngine, ca, propertyRuns(4000)));
});
